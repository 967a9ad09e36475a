cwlVersion: v1.2
class: CommandLineTool
label: One part of a manifest
requirements:
  InlineJavascriptRequirement: {}
  EnvVarRequirement:
    envDef:
      PYTHONDONTWRITEBYTECODE: "1"
hints:
  DockerRequirement:
    dockerPull: registry.example.org/fmcib@sha256:0000000000000000000000000000000000000000000000000000000000000000
  ResourceRequirement:
    coresMin: $(inputs.cpus)
    ramMin: 8192
    tmpdirMin: 20480
  NetworkAccess:
    networkAccess: true
baseCommand: [fmcib, batch]
arguments:
  - position: 2
    valueFrom: output
  - position: 3
    prefix: --cpus-per-worker
    valueFrom: $(inputs.cpus)
  - position: 3
    prefix: --scratch
    valueFrom: $(runtime.tmpdir)/scratch
  - position: 3
    valueFrom: --json-log
inputs:
  manifest:
    type: File
    inputBinding: {position: 1}
  root:
    type: Directory?
    inputBinding: {position: 3, prefix: --root}
  shard:
    type: string
    inputBinding: {position: 3, prefix: --shard}
  weights:
    type: string
    inputBinding: {position: 3, prefix: --weights}
  settings:
    type:
      type: array
      items: string
      inputBinding: {prefix: --set}
    inputBinding: {position: 3}
  anonymous:
    type: boolean
    inputBinding: {position: 3, prefix: --anonymous}
  idc_indices:
    type: Directory?
    inputBinding: {position: 3, prefix: --idc-indices}
  cpus: int
successCodes: [0, 3, 4]
outputs:
  results:
    type: Directory
    outputBinding: {glob: output}

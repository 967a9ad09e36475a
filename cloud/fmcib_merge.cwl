cwlVersion: v1.2
class: CommandLineTool
label: The cohort's tables and ledger over all parts
requirements:
  EnvVarRequirement:
    envDef:
      PYTHONDONTWRITEBYTECODE: "1"
hints:
  DockerRequirement:
    dockerPull: registry.example.org/fmcib@sha256:0000000000000000000000000000000000000000000000000000000000000000
  ResourceRequirement:
    coresMin: 1
    ramMin: 8192
baseCommand: [sh, -euc]
arguments:
  - position: 0
    valueFrom: |
      mkdir output
      while [ "$1" != -- ]; do cp -RL "$1/." output/; shift; done
      chmod -R u+w output
      shift
      exec fmcib batch "$@"
  - position: 1
    valueFrom: merge
  - position: 3
    valueFrom: --
  - position: 5
    valueFrom: output
  - position: 6
    valueFrom: --merge
  - position: 6
    valueFrom: --json-log
inputs:
  manifest:
    type: File
    inputBinding: {position: 4}
  parts:
    type: Directory[]
    inputBinding: {position: 2}
  weights:
    type: string
    inputBinding: {position: 6, prefix: --weights}
  settings:
    type:
      type: array
      items: string
      inputBinding: {prefix: --set}
    inputBinding: {position: 6}
  idc_indices:
    type: Directory?
    inputBinding: {position: 6, prefix: --idc-indices}
successCodes: [0, 3, 4]
outputs:
  results:
    type: Directory
    outputBinding: {glob: output}

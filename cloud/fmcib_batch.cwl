cwlVersion: v1.2
class: Workflow
label: Features of every lesion of a manifest of CT series
doc: |
  A manifest over many small machines (Seven Bridges, Cancer Genomics Cloud, Arvados, cwltool): each shard is one
  `fmcib batch`, and a last step gathers the cohort's tables. The image is in fmcib_shard.cwl and fmcib_merge.cwl;
  pin it by its digest there. See docs/cloud.md.
requirements:
  ScatterFeatureRequirement: {}
  StepInputExpressionRequirement: {}
  InlineJavascriptRequirement: {}
hints:
  - class: sbg:useSpotInstance
    value: "true"
$namespaces:
  sbg: https://sevenbridges.com
inputs:
  manifest: File
  root:
    type: Directory?
    doc: What relative paths of the manifest are relative to; none where it holds URLs or SeriesInstanceUIDs.
  shards:
    type: int
    default: 16
  weights:
    type: string
    default: fmcib
  settings:
    type: string[]
    default: []
    doc: Further settings, as in config/*.yml, such as mode=centred.
  anonymous:
    type: boolean
    default: false
    doc: Public buckets, such as those of the Imaging Data Commons.
  idc_indices:
    type: Directory?
    doc: rtstruct_index.parquet and seg_index.parquet of idc-index, where the manifest holds SeriesInstanceUIDs.
  cpus:
    type: int
    default: 4
steps:
  number:
    run:
      class: ExpressionTool
      inputs:
        shards: int
      outputs:
        names: string[]
      expression: |
        ${
          var names = [];
          for (var n = 1; n <= inputs.shards; n++) { names.push(n + "/" + inputs.shards); }
          return {"names": names};
        }
    in:
      shards: shards
    out: [names]
  shard:
    run: fmcib_shard.cwl
    scatter: shard
    in:
      manifest: manifest
      root: root
      shard: number/names
      weights: weights
      settings: settings
      anonymous: anonymous
      idc_indices: idc_indices
      cpus: cpus
    out: [results]
  merge:
    run: fmcib_merge.cwl
    in:
      manifest: manifest
      parts: shard/results
      weights: weights
      settings: settings
      idc_indices: idc_indices
    out: [results]
outputs:
  results:
    type: Directory
    outputSource: merge/results
    doc: As `fmcib run` writes it.

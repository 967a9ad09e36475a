version 1.0

# A manifest of CT series over many small machines (Terra, Cromwell, miniwdl): each shard is one `fmcib batch` of the
# image, on a machine that may be taken away at any time, and a last task gathers the cohort's tables. See docs/cloud.md.

workflow fmcib_batch {
  input {
    File manifest
    # by digest: registry/name@sha256:...
    String docker
    Int shards = 16
    String weights = "fmcib"
    # further settings, as in config/*.yml: ["mode=centred", "report=false"]
    Array[String] settings = []
    # public buckets such as those of the Imaging Data Commons
    Boolean anonymous = true
    # rtstruct_index.parquet and seg_index.parquet of idc-index, where the manifest holds SeriesInstanceUIDs
    Array[File] idc_indices = []
    Int cpus = 4
    Int memory_gb = 8
    Int disk_gb = 40
    Int preemptible_tries = 3
  }

  scatter (number in range(shards)) {
    call shard {
      input:
        manifest = manifest, docker = docker, number = number + 1, count = shards, weights = weights,
        settings = settings, anonymous = anonymous, idc_indices = idc_indices, cpus = cpus, memory_gb = memory_gb,
        disk_gb = disk_gb, preemptible_tries = preemptible_tries
    }
  }

  call merge {
    input:
      manifest = manifest, docker = docker, results = shard.results, weights = weights, settings = settings,
      idc_indices = idc_indices, memory_gb = memory_gb, disk_gb = disk_gb + ceil(size(shard.results, "GB") * 3)
  }

  output {
    File features_csv = merge.features_csv
    File features_parquet = merge.features_parquet
    File run_status = merge.run_status
    Array[File] results = shard.results
    # 0 all lesions have features, 3 some failed, 4 none came through
    Int exit_code = merge.exit_code
  }
}

task shard {
  input {
    File manifest
    String docker
    Int number
    Int count
    String weights
    Array[String] settings
    Boolean anonymous
    Array[File] idc_indices
    Int cpus
    Int memory_gb
    Int disk_gb
    Int preemptible_tries
  }

  command <<<
    set -u
    mkdir indices
    for index in ~{sep=" " idc_indices}; do ln -s "$index" indices/; done
    fmcib batch "~{manifest}" output --shard ~{number}/~{count} --weights "~{weights}" \
      ~{true="--anonymous" false="" anonymous} ~{sep=" " prefix("--set ", settings)} \
      --idc-indices indices --scratch scratch --scratch-gb ~{disk_gb / 2} --cpus-per-worker ~{cpus} --json-log
    code=$?
    # 3 and 4 are results (see the ledger), 2 is a mistake
    case $code in 0 | 3 | 4) tar -czf results.tar.gz output ;; *) exit $code ;; esac
  >>>

  output {
    File results = "results.tar.gz"
  }

  runtime {
    docker: docker
    cpu: cpus
    memory: "~{memory_gb} GB"
    disks: "local-disk ~{disk_gb} SSD"
    preemptible: preemptible_tries
    maxRetries: 1
  }
}

task merge {
  input {
    File manifest
    String docker
    Array[File] results
    String weights
    Array[String] settings
    Array[File] idc_indices
    Int memory_gb
    Int disk_gb
  }

  command <<<
    set -eu
    mkdir indices
    for index in ~{sep=" " idc_indices}; do ln -s "$index" indices/; done
    for part in ~{sep=" " results}; do tar -xzf "$part"; done
    code=0
    fmcib batch "~{manifest}" output --merge --weights "~{weights}" ~{sep=" " prefix("--set ", settings)} \
      --idc-indices indices --scratch scratch --json-log || code=$?
    case $code in 0 | 3 | 4) echo $code >exit_code ;; *) exit $code ;; esac
    # without a single lesion there are no tables
    touch output/features.csv output/features.parquet
  >>>

  output {
    File features_csv = "output/features.csv"
    File features_parquet = "output/features.parquet"
    File run_status = "output/run_status.json"
    Int exit_code = read_int("exit_code")
  }

  runtime {
    docker: docker
    cpu: 1
    memory: "~{memory_gb} GB"
    disks: "local-disk ~{disk_gb} SSD"
    preemptible: 1
  }
}

#!/usr/bin/env bash
# Build the image and run it, as root on Debian 12, without a container engine: buildah in chroots.
#
#   tests/image/run.sh [cpu|gpu] [0|1]     gpu adds torch: 25 GB of disk while it runs, minutes instead of one;
#                                          1 adds what `fmcib batch` needs
#
# The base is a bare Debian 12 made here, so no image is pulled. The machine's settings for pip are mounted while the
# image is built, and copied nowhere. Everything lies in one temporary folder that goes at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
device=${1:-cpu}
batch=${2:-0}
venv=${VENV:-.venv}
if [ "$(id -u)" != 0 ]; then
    echo "image-test: buildah's chroots need root" >&2
    exit 1
fi

need=()
for program in buildah debootstrap; do
    command -v "$program" >/dev/null || need+=("$program")
done
if [ ${#need[@]} -gt 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi

work=$(mktemp -d "${TMPDIR:-/var/tmp}/fmcib-image.XXXXXX")
export STORAGE_DRIVER=overlay BUILDAH_ISOLATION=chroot
buildah=(buildah --root "$work/storage" --runroot "$work/run")
clean_up() {
    "${buildah[@]}" umount --all >/dev/null 2>&1 || true
    "${buildah[@]}" rm --all >/dev/null 2>&1 || true
    umount "$work/storage/overlay" 2>/dev/null || true
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
step() { echo "image-test: $SECONDS s: $*"; }

step "a base from Debian's packages"
mirror=$(sed -nE 's/^(URIs: |deb (\[[^]]*\] )?)(http[^ ]*debian\/?)( .*)?$/\3/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/debian.* 2>/dev/null | head -n 1 || true)
debootstrap --variant=minbase bookworm "$work/debian" ${mirror:+"$mirror"} >"$work/debootstrap.log" 2>&1 ||
    { tail "$work/debootstrap.log" >&2; exit 1; }
container=$("${buildah[@]}" from scratch)
"${buildah[@]}" add -q "$container" "$work/debian" / >/dev/null
"${buildah[@]}" commit -q "$container" localhost/debian:bookworm >/dev/null
"${buildah[@]}" rm "$container" >/dev/null
rm -rf "$work/debian"

# What `pip config` and the environment say, as one file; what it names of this machine: certificates, folders of packages.
"$venv/bin/python" tests/image/pip_settings.py "$work/pip.conf" >"$work/mounts"
mounts=(-v "$work/pip.conf:/etc/pip.conf:ro")
while read -r from_to; do
    mounts+=(-v "$from_to:ro")
done <"$work/mounts"

step "the image for a ${device^^}"
"${buildah[@]}" build -q --format docker "${mounts[@]}" --build-arg BASE_IMAGE=localhost/debian:bookworm \
    --build-arg DEVICE="$device" --build-arg BATCH="$batch" --build-arg WEIGHTS=mini --build-arg REVISION="$(git rev-parse HEAD)" \
    -t localhost/fmcib . >"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log" >&2; exit 1; }

step "bills of materials"
container=$("${buildah[@]}" from localhost/fmcib)
"$venv/bin/python" -m requirements.dpkg_sbom "$("${buildah[@]}" mount "$container")" build/sbom/image.cdx.json
"${buildah[@]}" rm "$container" >/dev/null

step "runs of it"
FMCIB_IMAGE=localhost/fmcib FMCIB_BASE=localhost/debian:bookworm FMCIB_BUILDAH="${buildah[*]}" \
    "$venv/bin/pytest" -q -s -p no:cacheprovider tests/image/test_image.py
step "done"

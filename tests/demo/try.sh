#!/usr/bin/env bash
# The shortest way to a first image, without a cluster and without a registry: builds whittle and BuildKit's programs, and with them
# the demo's service for two platforms, into an OCI layout; then says what is in it. Checks what it shows.
#
#   make try      needs Go, Rust and gcc; as root, or as a user with subordinate IDs (docs/local.md)
#
# Nothing is pulled: the stage that golang:1.26 would be is made of this machine's own Go and shell. What is there is used again.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$PWD/target/try
target=${CARGO_TARGET_DIR:-$PWD/target}
mkdir -p "$work"

bold='' plain=''
if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; fi
begun=$SECONDS
stage() { printf '\n%s▸ %s%s  (%d s)\n' "$bold" "$1" "$plain" $((SECONDS - begun)); }
die() { printf '\ntry: %s\n' "$*" >&2; exit 1; }
for tool in go cargo gcc; do command -v "$tool" >/dev/null || die "$tool not found: install Go 1.26, Rust 1.95 and gcc"; done

# ── Programs ─────────────────────────────────────────────────────────────────────────────────────

stage "whittle, and BuildKit's programs: minutes the first time, seconds later"
programs=(buildctl buildkitd)
if ! command -v runc >/dev/null; then
  programs+=(runc)
  if ! pkg-config --exists libseccomp 2>/dev/null; then
    ((EUID == 0)) || die "runc not found: install the package runc, or as root libseccomp-dev and pkg-config"
    apt-get install -y --no-install-recommends libseccomp-dev pkg-config >"$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; die "libseccomp-dev cannot be installed"; }
  fi
fi
if ((EUID != 0)) && ! command -v rootlesskit >/dev/null; then programs+=(rootlesskit); fi
# In a process group of its own: it ends with all that it has started.
set -m
(cd tests/cluster && exec go run . build "${programs[@]}") >"$work/bin" &
building=$!
set +m
trap 'kill -- "-$building" 2>/dev/null || true' EXIT
cargo build --locked --bin whittle
wait "$building" || die "BuildKit's programs cannot be built: the lines above say why"
trap - EXIT
PATH="$(<"$work/bin"):$target/debug:$PATH"

# ── The source ───────────────────────────────────────────────────────────────────────────────────

stage "The demo's service, and this machine's Go in the place of golang:1.26"
version=$(go env GOVERSION)
tree=$work/golang-$version
with_libraries() { # program, where: with what its loader needs
  install -D -m 0755 "$(readlink -f "$1")" "$2"
  local library
  while read -r library; do
    install -D -m 0755 "$library" "$tree.new$library"
  done < <(ldd "$1" 2>/dev/null | grep -o '/[^ ]*' || true)
}
if [[ ! -d $tree ]]; then
  rm -rf "$tree.new"
  goroot=$(go env GOROOT)
  mkdir -p "$tree.new/usr/local/go/pkg" "$tree.new/usr/local/go/bin" "$tree.new/tmp" "$tree.new/root"
  for part in src pkg/tool pkg/include go.env VERSION; do
    [[ ! -e $goroot/$part ]] || cp -RL "$goroot/$part" "$tree.new/usr/local/go/${part%/*}/" 2>/dev/null || cp -RL "$goroot/$part" "$tree.new/usr/local/go/"
  done
  # What builds nothing: tests, and keys for them.
  find "$tree.new/usr/local/go/src" \( -name testdata -o -name '*_test.go' -o -name '*_key.pem' \) -prune -exec rm -rf {} +
  with_libraries "$goroot/bin/go" "$tree.new/usr/local/go/bin/go"
  with_libraries /bin/sh "$tree.new/bin/sh"
  install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$tree.new/etc/ssl/certs/ca-certificates.crt"
  mv "$tree.new" "$tree"
fi
(cd tests/demo/hello && GOMODCACHE=$work/modules GOFLAGS=-modcacherw go mod download)
context=$work/hello
rm -rf "$context"
cp -R tests/demo/hello "$context"
cp -R "$tree" "$context/.golang"
cp -R "$work/modules/cache/download" "$context/.modules"
{
  # shellcheck disable=SC2016 # It is BuildKit's.
  printf 'FROM --platform=$BUILDPLATFORM scratch AS golang\nCOPY .golang/ /\nCOPY .modules/ /modules/\nENV PATH=/usr/local/go/bin:/bin HOME=/root\n\n'
  sed 's/^FROM .* AS build$/FROM golang AS build/; s/^ARG GOPROXY$/ARG GOPROXY=file:\/\/\/modules/; s/^COPY \. \.$/COPY *.go .\//' tests/demo/hello/Dockerfile
} >"$context/Dockerfile"
cat >"$work/imagebuild.yaml" <<'YAML'
apiVersion: whittle.dev/v1alpha1
kind: ImageBuild
metadata: {name: hello}
spec:
  source: {inline: {files: {Dockerfile: "FROM scratch"}}}   # the directory on the command line goes before it
  platforms: [linux/amd64, linux/arm64]
  contract:
    enforce: [StaticBinary, CACertificates, NonRoot, NoShell]
    maxSize: 5Mi
  output: {image: registry.example.com/team/hello}
YAML

# ── The image ────────────────────────────────────────────────────────────────────────────────────

stage "whittle build --local: linux/amd64 and linux/arm64, held to a contract, into an OCI layout"
unset BUILDKIT_HOST
export XDG_DATA_HOME=$work/data
rm -rf "$work/image"
whittle build --local "$context" -f "$work/imagebuild.yaml" --output "oci:$work/image" | tee "$work/result"

stage "whittle inspect: what is in it"
for platform in linux/amd64 linux/arm64; do
  whittle inspect --platform "$platform" --enforce StaticBinary,NonRoot,NoShell --max-size 5Mi "oci:$work/image" >"$work/report"
  sed -n '/^Platform/p; /^Base/p; /^Size/p; /^User/p; /^Shells/p' "$work/report"
  grep -q "^Platform *$platform$" "$work/report" || die "the image is not for $platform"
done
digest=$(sed -n 's/.*@\(sha256:[0-9a-f]*\).*/\1/p' "$work/result" | head -n 1)
grep -q "$digest" "$work/image/index.json" || die "the layout does not have ${digest:-a digest}"

printf '\n%sAn image for two platforms after %d s%s: target/try/image, %s\n' "$bold" $((SECONDS - begun)) "$plain" "$digest"
cat <<'END'
  next: whittle build --local on a Dockerfile of yours: docs/local.md
        make demo: the same as a Kubernetes operator, on a cluster that starts on this machine
END

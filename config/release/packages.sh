#!/usr/bin/env bash
# Writes the manifest of the kubectl plugin for krew, and the formula for Homebrew on Linux, of the archives whose checksums are in
# SHA256SUMS: config/release/checksums.sh goes before. The program is Linux's alone: there is no archive for others.
cd "$(dirname "$0")/../.."
. config/release/common.sh

repository=$(sed -n 's/^repository = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
url() { echo "$repository/releases/download/v$version/whittle-$version-linux-$1.tar.gz"; }
sum() {
  local found
  found=$(awk -v name="whittle-$version-linux-$1.tar.gz" '$2 == name { print $1 }' "$out/SHA256SUMS")
  [[ -n $found || -n ${PARTIAL:-} ]] || { echo "SHA256SUMS has no whittle-$version-linux-$1.tar.gz" >&2; exit 1; }
  echo "${found:-$(printf '0%.0s' {1..64})}"
}

# https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/
{
  cat <<YAML
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: imagebuild
spec:
  version: v$version
  homepage: $repository
  shortDescription: Builds images, and says what became of them
  description: |
    Follows and explains the builds of Whittle, an operator that turns ImageBuilds into
    the smallest images that still run: status, logs, rebuild, wait, cancel, doctor.
  caveats: |
    Completion: make a symbolic link kubectl_complete-imagebuild to the plugin on your PATH.
  platforms:
YAML
  for arch in amd64 arm64; do
    cat <<YAML
    - selector: {matchLabels: {os: linux, arch: $arch}}
      uri: $(url $arch)
      sha256: $(sum $arch)
      files: [{from: "*/whittle", to: kubectl-imagebuild}, {from: "*/LICENSE", to: LICENSE}]
      bin: kubectl-imagebuild
YAML
  done
} >"$out/imagebuild.yaml"

# https://docs.brew.sh/Formula-Cookbook
cat >"$out/whittle.rb" <<RUBY
class Whittle < Formula
  desc "Builds the smallest image that still runs, in a cluster and without one"
  homepage "$repository"
  version "$version"
  license "Apache-2.0"
  depends_on :linux

  on_intel do
    url "$(url amd64)"
    sha256 "$(sum amd64)"
  end
  on_arm do
    url "$(url arm64)"
    sha256 "$(sum arm64)"
  end

  def install
    bin.install "whittle"
    bin.install_symlink "whittle" => "kubectl-imagebuild"
    bin.install_symlink "whittle" => "kubectl_complete-imagebuild"
    system bin/"whittle", "man", man1
    generate_completions_from_executable(bin/"whittle", "completion", shells: [:bash, :zsh, :fish])
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/whittle --version")
  end
end
RUBY
echo "$out/imagebuild.yaml $out/whittle.rb"

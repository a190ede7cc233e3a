#!/usr/bin/env bash
# Writes the bill of materials of the image, as SPDX 2.3 in JSON: the crates that are linked into the program, with
# their licenses and checksums, and the Go modules of buildctl, as buildctl itself has them on record.
cd "$(dirname "$0")/../.."
. config/release/common.sh

buildctl=${BUILDCTL:-$(tool buildctl)}
revision=$(git rev-parse HEAD)
# The same commit gives the same file.
created=$(TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# Checksums stand in Cargo.lock alone.
awk -F'"' '
  /^\[\[package\]\]/ { name = version = "" }
  /^name = / { name = $2 }
  /^version = / { version = $2 }
  /^checksum = / { printf "{\"%s@%s\": \"%s\"}\n", name, version, $2 }
' Cargo.lock | jq -s 'add' >"$stage/checksums.json"
# What ends in the program: normal dependencies with the features that they have there, and nothing of what only runs at
# build time or in tests. A crate of our own has its folder behind its name.
for arch in x86_64 aarch64; do
  cargo tree --locked --package whittle --edges normal,no-proc-macro --no-dedupe --prefix none --format '{p}|{l}' \
    --target "$arch-unknown-linux-gnu"
done | sed -n 's/^\([^ ]*\) v\([^ |]*\)|\(.*\)$/\1\t\2\t\3/p' | sort -u |
  jq -R 'split("\t") | {name: .[0], version: .[1], license: (.[2] | if . == "" then null else . end)}' |
  jq -s . >"$stage/crates.json"
go version -m "$buildctl" | awk -F'\t' '$2 == "dep" || $2 == "mod" { print $3 "\t" $4 }' |
  jq -R 'split("\t") | {name: .[0], version: .[1]}' | jq -s . >"$stage/modules.json"

file=$out/whittle-$version.spdx.json
jq -n --arg version "$version" --arg revision "$revision" --arg created "$created" \
  --slurpfile checksums "$stage/checksums.json" --slurpfile crates "$stage/crates.json" \
  --slurpfile modules "$stage/modules.json" '
  def id: "SPDXRef-" + gsub("[^A-Za-z0-9.-]"; "-");
  # Crates of before SPDX expressions write MIT/Apache-2.0.
  def license: (. // "NOASSERTION") | gsub("\\s*/\\s*"; " OR ");
  def package($purl): {
    name, versionInfo: .version, downloadLocation: "NOASSERTION", filesAnalyzed: false,
    licenseConcluded: "NOASSERTION", licenseDeclared: (.license | license), copyrightText: "NOASSERTION",
    externalRefs: [{referenceCategory: "PACKAGE-MANAGER", referenceType: "purl", referenceLocator: $purl}]
  };
  ([$crates[0][] | . as $crate
    | package("pkg:cargo/\(.name)@\(.version)") + {SPDXID: ("crate-\(.name)-\(.version)" | id)}
    | if $checksums[0]["\($crate.name)@\($crate.version)"] then
        . + {checksums: [{algorithm: "SHA256", checksumValue: $checksums[0]["\($crate.name)@\($crate.version)"]}]}
      else . end]) as $crates
  | ([$modules[0][] | package("pkg:golang/\(.name)@\(.version)") + {SPDXID: ("go-\(.name)-\(.version)" | id)}]) as $modules
  | ({name: "whittle", version: $version, license: "Apache-2.0"} | package("pkg:oci/whittle@\($version)")
      + {SPDXID: "SPDXRef-whittle", sourceInfo: "commit \($revision)"}) as $image
  | {
      spdxVersion: "SPDX-2.3", dataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", name: "whittle-\($version)",
      documentNamespace: "https://whittle.dev/spdx/whittle-\($version)-\($revision)",
      creationInfo: {created: $created, creators: ["Organization: Whittle", "Tool: config/release/sbom.sh"]},
      packages: ([$image] + $crates + $modules),
      relationships: ([{spdxElementId: "SPDXRef-DOCUMENT", relationshipType: "DESCRIBES", relatedSpdxElement: "SPDXRef-whittle"}]
        + [($crates + $modules)[] | {spdxElementId: "SPDXRef-whittle", relationshipType: "CONTAINS", relatedSpdxElement: .SPDXID}])
    }' >"$file"
# A walk that found nothing would be a short and valid file.
jq -e '[.packages[].externalRefs[].referenceLocator]
  | any(startswith("pkg:cargo/kube@")) and any(startswith("pkg:cargo/tokio@")) and any(startswith("pkg:golang/github.com/moby/buildkit@"))' \
  "$file" >/dev/null || { echo "$file lacks kube, tokio or BuildKit" >&2; exit 1; }
echo "$file: $(jq '.packages | length' "$file") packages"

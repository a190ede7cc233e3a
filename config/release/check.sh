#!/usr/bin/env bash
# Fails unless all of the checkout says that it is this version: config/release/check.sh 1.2.3
cd "$(dirname "$0")/../.."
. config/release/common.sh

wanted=${1:?usage: config/release/check.sh VERSION, for example 1.2.3}
wrong=0
is() { # what, value
  if [[ $2 != "$wanted" ]]; then
    echo "$1 is '$2' and not '$wanted'" >&2
    wrong=1
  fi
}
[[ $wanted =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] ||
  { echo "invalid version '$wanted': write 1.2.3 or 1.2.3-rc.1, without v" >&2; exit 1; }
is "version in Cargo.toml" "$version"
is "version of whittle in Cargo.lock" "$(sed -n '/^name = "whittle"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)"
is "version in charts/whittle/Chart.yaml" "$(sed -n 's/^version: //p' charts/whittle/Chart.yaml)"
is "appVersion in charts/whittle/Chart.yaml" "$(sed -n 's/^appVersion: "\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' charts/whittle/Chart.yaml)"
while read -r tag; do
  is "tag of the image in config/default/whittle.yaml (make generate)" "$tag"
done < <(sed -n 's|^ *image: .*/whittle:\([^"@ ]*\)$|\1|p' config/default/whittle.yaml)
config/release/notes.sh "$wanted" >/dev/null || wrong=1
if ((wrong)); then
  echo "see RELEASE.md for the places that hold the version" >&2
  exit 1
fi
echo "version $wanted: Cargo.toml, Cargo.lock, the chart, the kustomize base and the changelog agree"

#!/usr/bin/env bash
# The tutorial as it is written, on the cluster with Whittle that `make test-e2e` or `make demo` left: the commands of its steps 2 to 6,
# from docs/tutorial.md itself, one after the other. What it promises has to be so.
set -euo pipefail
cd "$(dirname "$0")/.."
page=$PWD/docs/tutorial.md
# shellcheck disable=SC1091
source .cluster/env
work=$(mktemp -d)
cp "$KUBECONFIG" "$work/kubeconfig"
export KUBECONFIG=$work/kubeconfig
finish() {
  kubectl delete namespace tutorial --ignore-not-found --wait=false >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT
kubectl delete namespace tutorial --ignore-not-found >/dev/null

die() { echo "docs/tutorial.md: $*" >&2; exit 1; }
# The fences of one language in a step.
fences() { # step, language
  awk -v step="## $1." -v fence="\`\`\`$2" '
    /^## / { on = index($0, step) == 1 }
    on && $0 == fence { inside = 1; next }
    /^```$/ { inside = 0 }
    on && inside' "$page"
}
cd "$work"
run() { # step: its commands, in this shell's folder; what they print
  local commands
  commands=$(fences "$1" sh)
  [[ -n $commands ]] || die "step $1 has no commands"
  bash -euo pipefail -c "$commands"
}
field() { kubectl get ib hello -n tutorial -o jsonpath="$1"; }

run 2
fences 3 yaml >hello.yaml
run 3
first=$(field '{.status.image}')
[[ $first == *@sha256:* ]] || die "step 3: no image: $first"
answer=$(run 4 | tail -n 1)
[[ $answer == hello ]] || die "step 4: the Pod answers $answer"
run 5
second=$(field '{.status.image}')
[[ $second != "$first" ]] || die "step 5: the image has not changed"
(($(field '{.status.steps.cached}') > 0)) || die "step 5: no step came from the cache"
said=$(run 6)
echo "$said"
[[ $(field '{.status.failure.reason}') == ContractBroken ]] || die "step 6: the reason is $(field '{.status.failure.reason}')"
[[ $said == *'RunnableEntrypoint: /bin/httpd needs'* ]] || die "step 6: the message names no program that misses something"
[[ $(field '{.status.image}') == "$second" ]] || die "step 6: status.image is not that of the last success"
[[ $(crane digest --insecure "${REGISTRY_HOST:-$REGISTRY}/tutorial/hello:latest") == "${second##*@}" ]] || die "step 6: the tag has moved"
echo "the tutorial does what it says"

#!/usr/bin/env bash
# The main job, end to end: a cluster, the operator, a build for two platforms, the image as a Pod,
# and a second build after a one-line change.
#
#   make demo                                  on the local cluster, which it starts
#   make demo CLUSTER=current REGISTRY=registry.example.com/team [IMAGE=registry.example.com/team/whittle:dev]
#                                              on the cluster of the current kube context
#
# For CLUSTER=current, by the environment:
#   REGISTRY_CONFIG  a Docker config.json with the registry's credentials, for builder and nodes
#   PLAIN_HTTP=1     the registry speaks HTTP
#   PUSH=0           IMAGE stands in the registry already: do not build it
#   VALUES           a file with further values for the chart, for example a storage class or mirrors
#   GOPROXY          where the service's modules come from; default: Go's own
set -euo pipefail
cd "$(dirname "$0")/../.."

namespace=demo
system=whittle-system
work=target/demo
sources=tests/demo/hello
mkdir -p "$work"

# ── Output ───────────────────────────────────────────────────────────────────────────────────────

bold='' dim='' plain='' terminal=0
if [[ -t 1 ]]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m' terminal=1; fi
now() { echo "${EPOCHREALTIME/[.,]/}"; }
since() { local us=$(($(now) - $1)); printf '%d.%d s' $((us / 1000000)) $((us % 1000000 / 100000)); }
begun=$(now)
stage_name='' stage_begun=$begun stages=()
stage() { stage_end; stage_name=$1 stage_begun=$(now); printf '\n%s▸ %s%s\n' "$bold" "$1" "$plain"; }
stage_end() {
  [[ -n $stage_name ]] || return 0
  stages+=("$(printf '%8s  %s' "$(since "$stage_begun")" "$stage_name")")
  stage_name=''
}
show() { printf '%s$ %s%s\n' "$dim" "$*" "$plain"; "$@"; }
say() { printf '  %s\n' "$*"; }
die() { printf '\n%s\n' "demo: $*" >&2; exit 1; }
line() { # time, text: a line that changes; where there is no terminal, a line for each new text
  local text="$1  $2"
  if ((terminal)); then printf '\r\e[K  %s' "${text:0:$((COLUMNS - 4))}"; elif [[ $2 != "$line_before" ]]; then say "$text"; fi
  line_before=$2
}
line_end() { if ((terminal)); then printf '\r\e[K'; fi; line_before=''; }
line_before=''
if ((terminal)); then COLUMNS=$(tput cols 2>/dev/null || echo 100); fi

ensure_namespace() { kubectl get namespace "$1" >/dev/null 2>&1 || kubectl create namespace "$1" >/dev/null; }

# ── The cluster ──────────────────────────────────────────────────────────────────────────────────

operator_image=${IMAGE:-}
helm_values=$work/values.yaml
if [[ ${CLUSTER:-local} == current ]]; then
  [[ -n ${REGISTRY:-} ]] || die "CLUSTER=current needs REGISTRY, for example REGISTRY=registry.example.com/team"
  for tool in kubectl helm crane; do
    command -v "$tool" >/dev/null || die "CLUSTER=current needs $tool"
  done
  stage "The cluster of the current context: $(kubectl config current-context)"
  kubectl version -o json >/dev/null || die "the cluster does not answer"
  repository=$REGISTRY/hello seen=$REGISTRY/hello
  crane_flags=()
  [[ -z ${PLAIN_HTTP:-} ]] || crane_flags=(--insecure)
  operator_image=${operator_image:-$REGISTRY/whittle:dev} operator_pull=${operator_image}
  {
    echo 'builder:'
    echo '  defaults:'
    echo '    cache: {size: 5Gi}'
    [[ -z ${PLAIN_HTTP:-} ]] || printf '    registries:\n      - {host: "%s", plainHTTP: true}\n' "${REGISTRY%%/*}"
  } >"$helm_values"
else
  stage "A cluster; meanwhile the operator's program is built"
  # Both take long on a fresh machine, and both download and link, where one processor or none has work.
  program=''
  if [[ ${PUSH:-1} == 1 && -z ${WHITTLE:-} ]]; then
    # In a process group of its own: it ends with all that it has started.
    set -m
    config/image/program.sh >"$work/program" 2>"$work/program.log" &
    program=$!
    set +m
    trap 'kill -- "-$program" 2>/dev/null || true' EXIT
  fi
  make --no-print-directory cluster IMAGES=demo
  if [[ -n $program ]]; then
    wait "$program" || { cat "$work/program.log" >&2; die "the operator's program cannot be built"; }
    trap - EXIT
    WHITTLE=$(<"$work/program")
    export WHITTLE
  fi
  # shellcheck disable=SC1091
  source .cluster/env
  repository=$REGISTRY/demo/hello seen=$REGISTRY_HOST/demo/hello
  crane_flags=(--insecure)
  operator_image=$REGISTRY_HOST/whittle/whittle:dev operator_pull=$REGISTRY/whittle/whittle:dev
  {
    echo 'builder:'
    printf '  nodeProfiles: {kubeletPath: "%s"}\n' "$KUBELET_PATH"
    echo "  egress: {allow: [$BUILDER_EGRESS]}"
    echo '  defaults:'
    echo '    cache: {size: 5Gi}'
    echo '    registries:'
    printf '      - {host: "%s", plainHTTP: true}\n' "$REGISTRY"
    printf '      - {host: "%s", mirrors: ["%s"]}\n' docker.io "$REGISTRY" gcr.io "$REGISTRY"
  } >"$helm_values"
fi

# ── The operator ─────────────────────────────────────────────────────────────────────────────────

stage "The operator's image: scratch, one static program and buildctl"
if [[ ${PUSH:-1} == 1 ]]; then
  pushed=$(CRANE_FLAGS=${crane_flags[*]:-} CRANE=$(command -v crane || true) BUILDCTL=$(command -v buildctl || true) \
    config/image/build.sh "$operator_image")
  digest=${pushed##*@}
else
  digest=$(crane digest "${crane_flags[@]}" "$operator_image")
fi
say "$operator_pull@$digest"

stage "The operator, by its Helm chart"
# By digest: the tag stays while the program changes.
operator_repository=${operator_pull%@*}
if [[ ${operator_repository##*/} == *:* ]]; then operator_repository=${operator_repository%:*}; fi
ensure_namespace "$system"
# For the DaemonSet that puts the builders' seccomp profile on the nodes.
kubectl label namespace "$system" pod-security.kubernetes.io/enforce=privileged --overwrite >/dev/null
more=()
if [[ ${CLUSTER:-local} != current ]]; then
  # Also over what `kubectl apply -k` has left on the local cluster.
  more+=(--take-ownership --force-conflicts)
elif [[ -n ${VALUES:-} ]]; then
  more+=(--values "$VALUES")
fi
if [[ -n ${REGISTRY_CONFIG:-} ]]; then
  kubectl create secret generic registry-credentials -n "$system" --type kubernetes.io/dockerconfigjson \
    --from-file ".dockerconfigjson=$REGISTRY_CONFIG" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  more+=(--set 'imagePullSecrets={registry-credentials}' --set 'runner.imagePullSecrets={registry-credentials}')
fi
# What an interrupted demo left half done.
if helm status whittle --namespace "$system" -o json 2>/dev/null | grep -q '"status":"pending-'; then
  helm uninstall whittle --namespace "$system" --wait >/dev/null
fi
install=(helm upgrade --install whittle charts/whittle --namespace "$system" --values "$helm_values"
  --set probeGuard.mode=Deny --set "image.repository=$operator_repository" --set "image.digest=$digest" "${more[@]}" --wait --timeout 3m)
printf '%s$ %s%s\n' "$dim" "${install[*]}" "$plain"
"${install[@]}" >"$work/helm.log" || { cat "$work/helm.log"; die "the operator does not get ready"; }
kubectl get deployment whittle -n "$system"
say "may the operator read Secrets in $namespace? $(kubectl auth can-i get secrets -n "$namespace" \
  --as "system:serviceaccount:$system:whittle" || true)"

# ── The first build ──────────────────────────────────────────────────────────────────────────────

stage "A namespace and the source of a small web service"
ensure_namespace "$namespace"
# Builders in a user namespace need no more than that; see docs/isolation.md.
kubectl label namespace "$namespace" pod-security.kubernetes.io/enforce=baseline --overwrite >/dev/null
# What an earlier demo left; its builder, and with it the caches, stays.
kubectl delete imagebuild hello -n "$namespace" --ignore-not-found --wait >/dev/null
kubectl delete pod hello -n "$namespace" --ignore-not-found --wait --grace-period 1 >/dev/null
if kubectl get builder default -n "$namespace" >/dev/null 2>&1; then
  say "the builder of an earlier demo is still warm; for a cold first build: kubectl delete ns $namespace"
fi
if [[ -n ${REGISTRY_CONFIG:-} ]]; then
  kubectl create secret generic registry-credentials -n "$namespace" --type kubernetes.io/dockerconfigjson \
    --from-file ".dockerconfigjson=$REGISTRY_CONFIG" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
fi

tree=$work/hello
rm -rf "$tree"
cp -R "$sources" "$tree"
commit() { # message
  git -C "$tree" add --all
  git -C "$tree" -c user.name=demo -c user.email=demo@example.com -c commit.gpgsign=false \
    commit --quiet --message "$1"
  git -C "$tree" push --quiet --force "$GIT_DIR/hello.git" HEAD:refs/heads/main
}
if [[ ${CLUSTER:-local} == current ]]; then
  say "inline, in the ImageBuild itself"
else
  # What the service needs of other modules goes to the cluster's own module proxy.
  (cd "$sources" && GOMODCACHE=$OLDPWD/$work/modules GOFLAGS=-modcacherw go mod download)
  cp -R "$work/modules/cache/download/." "$GOPROXY_DIR/"
  if [[ ! -d $GIT_DIR/hello.git ]]; then git init --quiet --bare --initial-branch main "$GIT_DIR/hello.git"; fi
  git -C "$tree" init --quiet --initial-branch main
  commit "A small web service"
  say "$GIT_URL/hello.git  $(git -C "$tree" log -1 --format='%h %s')"
fi

manifest() {
  cat <<YAML
apiVersion: whittle.dev/v1alpha1
kind: ImageBuild
metadata:
  name: hello
  namespace: $namespace
spec:
YAML
  if [[ ${CLUSTER:-local} == current ]]; then
    printf '  source:\n    inline:\n      files:\n'
    local file
    for file in Dockerfile go.mod go.sum main.go; do
      printf '        %s: |\n' "$file"
      sed 's/^\(.\)/          \1/' "$tree/$file"
    done
    if [[ -n ${GOPROXY:-} ]]; then printf '  buildArgs:\n    GOPROXY: "%s"\n' "$GOPROXY"; fi
  else
    cat <<YAML
  source:
    git:
      url: $GIT_URL/hello.git
      ref: {branch: main}
  buildArgs:
    GOPROXY: $GOPROXY_URL
YAML
  fi
  cat <<YAML
  platforms: [linux/amd64, linux/arm64]
  contract:
    enforce: [StaticBinary, CACertificates, NonRoot, NoShell]
    maxSize: 5Mi
  output:
    image: $repository
    tags: [latest]
YAML
  if [[ -n ${REGISTRY_CONFIG:-} ]]; then printf '    secretRef: {name: registry-credentials}\n'; fi
}

field() { kubectl get imagebuild hello -n "$namespace" -o jsonpath="$1"; }
wait_for_build() { # number: until that build has ended
  local from state number ended result message waiting
  from=$(now)
  while :; do
    # number of the last build | when it ended | its result | what goes on
    state=$(field '{.status.build}|{.status.completedAt}|{.status.conditions[?(@.type=="Built")].reason}|{.status.current.message}|{.status.conditions[?(@.type=="Reconciling")].message}')
    IFS='|' read -r number ended result message waiting <<<"$state"
    if [[ -n $ended ]] && ((${number:-0} >= $1)); then break; fi
    line "$(since "$from")" "${message:-${waiting:-…}}"
    if (($(now) - from > 1800000000)); then line_end; die "no result within 30 minutes: kubectl describe ib hello -n $namespace"; fi
    sleep 0.4
  done
  line_end
  if [[ $result != Succeeded ]]; then
    field '{.status.failure.reason}: {.status.failure.message}{"\n"}{.status.failure.log}{"\n"}'
    die "the build failed"
  fi
}
downloads() { # requests for modules so far
  if [[ -n ${MODULES_LOG:-} && -f $MODULES_LOG ]]; then wc -l <"$MODULES_LOG"; else echo 0; fi
}

stage "The first build: linux/amd64 and linux/arm64"
manifest >"$work/imagebuild.yaml"
before=$(downloads)
show kubectl apply -f "$work/imagebuild.yaml"
first_begun=$(now)
wait_for_build 1
first="$(since "$first_begun")"
first_steps=$(field '{.status.steps.cached} of {.status.steps.total}')
say "Ready after $first; $first_steps steps from the cache; $(($(downloads) - before)) requests to the module proxy"
show kubectl get ib -n "$namespace"

stage "What the registry says"
status_digest=$(field '{.status.digest}')
tag_digest=$(crane digest "${crane_flags[@]}" "$seen:latest")
[[ $tag_digest == "$status_digest" ]] || die "the tag points at $tag_digest, status.digest is $status_digest"
say "crane digest of the tag = status.digest = $status_digest"
while read -r platform digest size; do
  # Config and layers: every size that the manifest of one platform holds.
  sum=$(crane manifest "${crane_flags[@]}" "$seen@$digest" | grep -oE '"size": *[0-9]+' | grep -oE '[0-9]+$' | paste -sd + | { read -r terms; echo $((terms)); })
  [[ $sum == "$size" ]] || die "$platform: config and layers are $sum bytes, status says $size"
  say "$platform: config + layers = status = $size bytes"
  if [[ $platform == linux/amd64 ]]; then
    # The floor: nothing but the program and the authorities, compressed.
    floor=$(crane export "${crane_flags[@]}" "$seen@$digest" - | tar -xOf - hello etc/ssl/certs/ca-certificates.crt | gzip | wc -c)
    over=$((size - floor))
    ((over <= 65536)) || die "the image is $over bytes over its program and CA bundle"
    say "$platform: $over bytes over its program and CA bundle alone"
  fi
done < <(field '{range .status.platforms[*]}{.platform} {.digest} {.size}{"\n"}{end}')

stage "The image as a Pod, with an HTTP probe"
pull=''
if [[ -n ${REGISTRY_CONFIG:-} ]]; then pull='imagePullSecrets: [{name: registry-credentials}]'; fi
cat >"$work/pod.yaml" <<YAML
apiVersion: v1
kind: Pod
metadata:
  name: hello
  namespace: $namespace
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 5
  $pull
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: hello
      image: $(field '{.status.image}')
      ports: [{name: http, containerPort: 8080}]
      readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
      livenessProbe: {httpGet: {path: /healthz, port: http}}
      resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
      securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
YAML
run_pod() {
  kubectl apply -f "$work/pod.yaml" >/dev/null
  kubectl wait pod hello -n "$namespace" --for condition=Ready --timeout 60s >/dev/null
  show kubectl get pod hello -n "$namespace"
  show kubectl get --raw "/api/v1/namespaces/$namespace/pods/hello:8080/proxy/"
}
run_pod

# ── The probe guard ──────────────────────────────────────────────────────────────────────────────

stage "A probe that cannot work on this image, and one that can"
deployment() { # probe
  sed -e 's/^kind: Pod/kind: Deployment/' -e 's/^apiVersion: v1/apiVersion: apps\/v1/' -e '/^spec:/,$d' "$work/pod.yaml"
  printf 'spec:\n  replicas: 0\n  selector: {matchLabels: {app: hello}}\n  template:\n    metadata: {labels: {app: hello}}\n'
  sed -n '/^spec:/,$p' "$work/pod.yaml" | sed -e "s|livenessProbe: .*|livenessProbe: $1|" -e 's/^/    /'
}
deployment '{exec: {command: [sh, -c, "curl -fsS http://localhost:8080/healthz"]}}' >"$work/wrong.yaml"
deployment '{httpGet: {path: /healthz, port: http}}' >"$work/right.yaml"
grep --color=never livenessProbe "$work/wrong.yaml"
# What a build has just put there is known within seconds.
refused=''
for ((tries = 0; tries < 40; tries++)); do
  if ! refused=$(kubectl apply --dry-run=server -f "$work/wrong.yaml" 2>&1); then break; fi
  refused='' && sleep 0.25
done
[[ $refused == *'livenessProbe runs sh, which image'* ]] || die "the probe that cannot work is not refused: ${refused:-it passes}"
printf '%s$ kubectl apply -f %s%s\n%s\n' "$dim" "$work/wrong.yaml" "$plain" "$refused"
grep --color=never livenessProbe "$work/right.yaml"
show kubectl apply -f "$work/right.yaml"
kubectl delete deployment hello -n "$namespace" --wait=false >/dev/null

# ── The second build ─────────────────────────────────────────────────────────────────────────────

stage "A one-line change, and the second build"
greeting="hello again, at $(date +%H:%M:%S)"
sed -i "s/^const greeting = .*/const greeting = \"$greeting\"/" "$tree/main.go"
before=$(downloads)
second_begun=$(now)
if [[ ${CLUSTER:-local} == current ]]; then
  manifest >"$work/imagebuild.yaml"
  show kubectl apply -f "$work/imagebuild.yaml"
else
  commit "Greet again"
  git -C "$tree" show --format= --unified=0 | grep '^[-+]const' | sed 's/^/  /'
  second_begun=$(now)
  show kubectl annotate ib hello -n "$namespace" "whittle.dev/requestedAt=$(date -u +%FT%TZ)" --overwrite
fi
wait_for_build 2
second="$(since "$second_begun")"
second_steps=$(field '{.status.steps.cached} of {.status.steps.total}')
requests=$(($(downloads) - before))
say "Ready after $second; $second_steps steps from the cache; $requests requests to the module proxy"
if [[ -n ${MODULES_LOG:-} ]] && ((requests > 0)); then die "the second build asked for modules: see $MODULES_LOG"; fi
kubectl delete pod hello -n "$namespace" --wait --grace-period 1 >/dev/null
sed -i "s|^      image: .*|      image: $(field '{.status.image}')|" "$work/pod.yaml"
run_pod | tail -n 1
stage_end

# ── The end ──────────────────────────────────────────────────────────────────────────────────────

printf '\n%sReady.%s\n' "$bold" "$plain"
kubectl get ib -n "$namespace" -o wide
printf '\n  first build   %8s   %s steps from the cache\n  second build  %8s   %s steps from the cache\n\n' \
  "$first" "$first_steps" "$second" "$second_steps"
printf '  %s\n' "${stages[@]}" "$(printf '%8s  in all' "$(since "$begun")")"
printf '\n%sWhat to try next%s\n' "$bold" "$plain"
try() { printf '  %-52s # %s\n' "$1" "$2"; }
if [[ ${CLUSTER:-local} != current ]]; then try "source .cluster/env" "kubectl, helm and crane for this cluster"; fi
try "kubectl describe ib hello -n $namespace" "all of its status"
try "kubectl get jobs,pods -n $namespace" "a Job for each build, and the warm builder"
try "kubectl logs -n $namespace -l whittle.dev/component=runner" "what the builds printed"
try "kubectl edit ib hello -n $namespace" "a spec that changes builds again: try target: nosuch"
try "kubectl explain ib.spec" "every field"
if [[ ${CLUSTER:-local} != current ]]; then try "make cluster-down" "ends the cluster and leaves nothing behind"; fi

#!/usr/bin/env bash
# A real Kubernetes of one node, for the tests on it: etcd, API server with RBAC, controllers, scheduler, kubelet and
# containerd, in pid, mount, network, ipc and uts namespaces of their own. Needs root, on Linux with Go.
#
#   scripts/kubernetes.sh setup             get what it needs: Debian packages, and one Go build, kept in the user's cache
#   scripts/kubernetes.sh up                start it, empty
#   scripts/kubernetes.sh kubectl …         talk to it
#   scripts/kubernetes.sh exec …            run a command in its namespaces
#   scripts/kubernetes.sh image FILE        have it know the image of an archive
#   scripts/kubernetes.sh alias OLD NEW     have it know an image under another name
#   scripts/kubernetes.sh down              kill it, and forget all that was in it
#
# Modules are those of tests/support/kubernetes/go.sum, which has the checksum of each. The cluster has no kube-proxy, no
# DNS and no NetworkPolicy engine, and pulls no images: it has localhost/busybox:1 and what is imported by `image`.
# The kubelet writes below $run/logs/pods, which is /var/log/pods in its namespaces; the machine's own is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

version=v1.34.4
source=tests/support/kubernetes
cache=${XDG_CACHE_HOME:-$HOME/.cache}/logsvc/kubernetes
build=$cache/$(cat "$source"/{main.go,go.mod,go.sum,pause.c,image.py} | sha256sum | cut -c1-16)
run=$cache/run
pki=$run/pki
node=node1
address=10.88.0.1
service=10.96.0.1

say() { printf '==> %s\n' "$*"; }
fail() {
  printf 'kubernetes: %s\n' "$@" >&2
  exit 1
}

# ---- what it needs

packages=(containerd runc containernetworking-plugins busybox-static iproute2 iptables gcc libc6-dev openssl)

has_packages() {
  local name
  for name in containerd runc gcc ip openssl; do command -v "$name" >/dev/null || return; done
  [ -x /usr/lib/cni/bridge ] && [ -x /bin/busybox ]
}

has_go() {
  local release
  release=$(go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p') && [ "${release:-0}" -ge 24 ]
}

build_node() {
  say "Building Kubernetes $version into $build (the first time takes up to 10 minutes)"
  local names=k8s.io/component-base/version
  local flags=(-s -w "-X=$names.gitVersion=$version" "-X=$names.gitMajor=1" "-X=$names.gitMinor=34"
    "-X=$names.gitTreeState=clean" "-X=$names.buildDate=2026-01-01T00:00:00Z"
    "-X=k8s.io/client-go/pkg/version.gitVersion=$version")
  (cd "$source" && CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS="-mod=readonly -buildvcs=false" \
    nice -n 10 go build -trimpath -o "$build/bin/kubenode" -ldflags "${flags[*]}" .)
  local name
  for name in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do
    ln -sf kubenode "$build/bin/$name"
  done
}

setup() {
  [ "$(id -u)" = 0 ] || fail "A cluster of one's own takes root: namespaces, mounts and cgroups are made for it."
  if ! has_packages; then
    command -v apt-get >/dev/null || fail "These Debian packages are needed: ${packages[*]}"
    say "Installing ${packages[*]}"
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
  fi
  [ -e "$build/.complete" ] && return
  has_go || fail "Go 1.24 or newer is needed, to build Kubernetes $version."
  mkdir -p "$build"/{bin,images}
  gcc -Os -static -s -o "$build/bin/pause" "$source/pause.c"
  python3 "$source/image.py" "$build/images/pause.tar" localhost/pause:1 /pause "$build/bin/pause:/pause"
  local applets
  applets=$(/bin/busybox --list | grep -vE '^(busybox|\[\[?)$' | paste -sd,)
  python3 "$source/image.py" "$build/images/busybox.tar" localhost/busybox:1 "" "/bin/busybox:/bin/busybox:$applets"
  build_node
  touch "$build/.complete"
}

# ---- its life

is_up() { [ -e "$run/ns.pid" ] && [ -e "/proc/$(cat "$run/ns.pid")/ns/net" ]; }

inside() { nsenter -t "$(cat "$run/ns.pid")" --pid --mount --net --ipc --uts --wdns="$PWD" -- "$@"; }

kubectl() { inside "$build/bin/kubectl" --kubeconfig "$run/admin.kubeconfig" "$@"; }

daemon() {
  local name=$1
  shift
  setsid nsenter -t "$(cat "$run/ns.pid")" --pid --mount --net --ipc --uts -- "$@" \
    >"$run/log/$name.log" 2>&1 </dev/null 9>&- &
}

wait_for() {
  local what=$1 _
  shift
  for _ in $(seq 1200); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  tail -n 5 "$run"/log/*.log >&2
  fail "$what took too long"
}

make_namespaces() {
  # pid 1 of the namespace is our pause, which reaps what it inherits.
  setsid unshare --pid --fork --mount --net --ipc --uts --mount-proc --propagation private "$build/bin/pause" \
    </dev/null >/dev/null 2>&1 9>&- &
  local parent=$! first=
  for _ in $(seq 100); do
    first=$(ps -o pid= --ppid "$parent" | tr -d ' ') && [ -n "$first" ] && break
    sleep 0.05
  done
  [ -n "$first" ] || fail "the namespaces can't be made"
  echo "$first" >"$run/ns.pid"
  wait_for "the mount of /proc" inside test -e /proc/1/exe
  inside sh -ec "
    mount --make-rshared /
    mount -t tmpfs tmpfs /run && mkdir -p /run/netns
    mkdir -p /var/lib/kubelet && mount -t tmpfs tmpfs /var/lib/kubelet
    mount -t tmpfs tmpfs /var/log && mkdir /var/log/pods /var/log/containers
    mount --bind $run/logs/pods /var/log/pods
    hostname $node
    ip link set lo up
    ip link add cni0 type bridge && ip addr add $address/24 dev cni0 && ip link set cni0 up
    ip addr add $service/32 dev lo"
}

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$pki/$1.key"; }

sign() {
  new_key "$1"
  openssl req -new -key "$pki/$1.key" -subj "$2" | openssl x509 -req -CA "$pki/ca.crt" -CAkey "$pki/ca.key" \
    -CAcreateserial -days 3650 -out "$pki/$1.crt" \
    -extfile <(printf 'extendedKeyUsage=serverAuth,clientAuth\n%s' "${3:-}") 2>/dev/null
}

make_keys() {
  new_key ca
  openssl req -x509 -new -key "$pki/ca.key" -subj /CN=kube-ca -days 3650 -out "$pki/ca.crt"
  sign apiserver /CN=kube-apiserver "subjectAltName=IP:127.0.0.1,IP:$address,IP:$service,DNS:localhost,DNS:kubernetes.default.svc"
  sign admin /O=system:masters/CN=admin
  sign node "/O=system:nodes/CN=system:node:$node" "subjectAltName=IP:$address,DNS:$node"
  openssl genrsa -out "$pki/sa.key" 2048 2>/dev/null
  openssl rsa -in "$pki/sa.key" -pubout -out "$pki/sa.pub" 2>/dev/null
  local name
  for name in admin node; do
    cat >"$run/$name.kubeconfig" <<JSON
{"apiVersion":"v1","kind":"Config","current-context":"c",
"clusters":[{"name":"k","cluster":{"server":"https://127.0.0.1","certificate-authority":"$pki/ca.crt"}}],
"users":[{"name":"u","user":{"client-certificate":"$pki/$name.crt","client-key":"$pki/$name.key"}}],
"contexts":[{"name":"c","context":{"cluster":"k","user":"u"}}]}
JSON
  done
}

start_containerd() {
  mkdir -p "$run/cni"
  cat >"$run/cni/10-kube.conflist" <<JSON
{"cniVersion":"0.4.0","name":"kube","plugins":[{"type":"bridge","bridge":"cni0","isGateway":true,
 "ipam":{"type":"host-local","subnet":"10.88.0.0/24","gateway":"$address","routes":[{"dst":"0.0.0.0/0"}],
 "dataDir":"$run/cni-ipam"}}]}
JSON
  cat >"$run/containerd.toml" <<TOML
version = 2
root = "$run/containerd/root"
state = "$run/containerd/state"
[grpc]
  address = "$run/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$run/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true  # without CAP_SYS_RESOURCE nothing may lower an oom_score_adj
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$run/cni"
TOML
  daemon containerd containerd --config "$run/containerd.toml"
  wait_for containerd ctr version
  local image
  for image in "$build"/images/*.tar; do import "$image"; done
}

ctr() { command ctr -a "$run/containerd.sock" -n k8s.io "$@" >/dev/null; }

import() { ctr image import "$1"; }

start_control_plane() {
  daemon etcd "$build/bin/etcd" --data-dir "$run/etcd" --unsafe-no-fsync --listen-client-urls http://127.0.0.1:2379 \
    --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 --log-level warn
  daemon apiserver "$build/bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --secure-port=443 \
    --advertise-address="$address" --service-cluster-ip-range=10.96.0.0/24 \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
    --kubelet-client-certificate="$pki/admin.crt" --kubelet-client-key="$pki/admin.key" \
    --kubelet-preferred-address-types=InternalIP --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --event-ttl=1h --profiling=false
  wait_for "the API server" kubectl get --raw /readyz
  local without='*,-node-ipam-controller,-cloud-node-lifecycle-controller,-service-lb-controller,-node-route-controller'
  daemon controllers "$build/bin/kube-controller-manager" --kubeconfig="$run/admin.kubeconfig" --leader-elect=false \
    --use-service-account-credentials=false --service-account-private-key-file="$pki/sa.key" \
    --root-ca-file="$pki/ca.crt" --controllers="$without" --profiling=false
  daemon scheduler "$build/bin/kube-scheduler" --kubeconfig="$run/admin.kubeconfig" --leader-elect=false --profiling=false
}

start_kubelet() {
  : >"$run/resolv.conf"
  # Small files and a quick look at them, so that a test sees many rotations.
  cat >"$run/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$run/containerd.sock
cgroupDriver: cgroupfs
failSwapOn: false
failCgroupV1: false
makeIPTablesUtilChains: false
resolvConf: $run/resolv.conf
clusterDNS: ["10.96.0.10"]
tlsCertFile: $pki/node.crt
tlsPrivateKeyFile: $pki/node.key
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
containerLogMaxSize: 1Mi
containerLogMaxFiles: 4
containerLogMonitorInterval: 3s
evictionHard: {memory.available: 50Mi, nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}
imageGCHighThresholdPercent: 100
featureGates: {KubeletCrashLoopBackOffMax: true}
crashLoopBackOff: {maxContainerRestartPeriod: 2s}
volumePluginDir: $run/volume-plugins
staticPodPath: ""
YAML
  daemon kubelet "$build/bin/kubelet" --config="$run/kubelet.yaml" --kubeconfig="$run/node.kubeconfig" \
    --hostname-override="$node" --node-ip="$address" --root-dir="$run/kubelet" --cert-dir="$run/kubelet-pki" --v=2
  wait_for "the node" kubectl wait --for=condition=Ready "node/$node" --timeout=1s
  wait_for "the default service account" kubectl get serviceaccount default
}

up() {
  [ -e "$build/.complete" ] || fail "scripts/kubernetes.sh setup has to come first"
  exec 9>"$cache/lock"
  flock -n 9 || fail "somebody starts or ends a cluster on this machine at this moment"
  if is_up; then fail "a cluster runs on this machine already: scripts/kubernetes.sh down ends it"; fi
  rm -rf "$run"
  mkdir -p "$run/log" "$pki" "$run/logs/pods"
  make_namespaces
  make_keys
  start_containerd
  start_control_plane
  start_kubelet
}

# cgroups are the one thing that outlives the namespaces. Those of another kubelet aren't empty, and stay.
remove_cgroups() {
  local parent group
  for parent in /sys/fs/cgroup/ /sys/fs/cgroup/*/; do
    for group in kubepods k8s.io; do
      if [ -d "$parent$group" ]; then find "$parent$group" -depth -type d -exec rmdir {} + 2>/dev/null || return; fi
    done
  done
}

down() {
  exec 9>"$cache/lock"
  flock 9
  if is_up; then
    kill -9 "$(cat "$run/ns.pid")" # pid 1: all processes in there go with it, and their mounts with them
    for _ in $(seq 50); do
      if ! is_up && remove_cgroups; then break; fi
      sleep 0.1
    done
  fi
  rm -rf "$run"
}

case ${1:-} in
setup | up | down) "$1" ;;
kubectl) shift && kubectl "$@" ;;
exec) shift && inside "$@" ;;
image) import "$2" ;;
alias) ctr image tag --force "$2" "$3" ;;
*) fail "setup, up, kubectl, exec, image, alias or down?" ;;
esac

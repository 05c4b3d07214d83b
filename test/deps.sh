#!/usr/bin/env bash
# Installs the Debian packages that tests compare with or read from, if they are missing and this is root. It never
# fails: without a network the tests that need a program say so themselves (and fail under MUST_WORK=1).
set -u

# program:package, where the names differ
want="runc crun busybox:busybox-static debootstrap skopeo umoci docker-registry conmon jq strace
  qemu-aarch64-static:qemu-user-static gcc ip:iproute2 setfattr:attr setcap:libcap2-bin zstd tmux podman
  nft:nftables conntrack iptables dockerd:docker.io pscap:libcap-ng-utils
  lscgroup:cgroup-tools ping:iputils-ping curl modprobe:kmod nginx"
# for test/net's TestLoad and the bench's network/transfer
[ -z "${VITRO_TEST_LOAD-}" ] || want="$want nginx:nginx-light wrk iperf3 pgbench:postgresql"
headers="/usr/lib/cni/bridge:containernetworking-plugins /usr/include/stdio.h:libc6-dev /usr/include/seccomp.h:libseccomp-dev"

missing=()
find_missing() {
  missing=()
  local w
  for w in $want; do command -v "${w%%:*}" >/dev/null || missing+=("${w##*:}"); done
  for w in $headers; do [ -e "${w%%:*}" ] || missing+=("${w##*:}"); done
  # The dynamic busybox cannot run in an empty root filesystem.
  if command -v busybox >/dev/null && ldd "$(command -v busybox)" >/dev/null 2>&1; then missing+=(busybox-static); fi
}

find_missing
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # no service starts
  # One by one after the first failure: one package that is not there must not keep the others away.
  apt-get install -qy --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || {
    apt-get update -q >/dev/null 2>&1
    for p in "${missing[@]}"; do apt-get install -qy --no-install-recommends "$p" >/dev/null 2>&1; done
  }
  find_missing
fi
[ ${#missing[@]} -eq 0 ] || echo "test/deps.sh: not installed, some tests will not run: ${missing[*]}" >&2
exit 0

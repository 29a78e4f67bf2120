#!/bin/sh
# First process of a machine within this one: namespaces of its own for network, mounts and processes, made by unshare(1). What
# is started, mounted or configured in it is gone when this ends. It waits for whoever is left without a parent, as an init does.
#
#   enter.sh FOLDER PROGRAM ARGUMENTS...
#
# FOLDER takes what is too large for memory. The node's address is 192.0.2.1 (RFC 5737: nobody's).
set -eu
folder=$1
shift
ip link set lo up
# There need not be a dummy interface in a kernel; there is a bridge, since Pods' networks need it.
ip link add node0 type bridge
ip address add 192.0.2.1/24 dev node0
ip link set node0 up
ip route add default dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward
# Folders that kubelet, containerd and CNI plugins have fixed in their sources.
for memory in /run /var/log /var/lib; do mount -t tmpfs -o mode=755 node "$memory"; done
mkdir -p /var/lib/kubelet "$folder/kubelet"
mount --bind "$folder/kubelet" /var/lib/kubelet
"$@"

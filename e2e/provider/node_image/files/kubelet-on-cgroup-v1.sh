#!/bin/sh
# Writes the environment file $1: on cgroup v1 the kubelet's extra arguments and one more.
set -eu

if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    rm -f "$1"
    exit 0
fi

KUBELET_EXTRA_ARGS=""
if [ -f /etc/default/kubelet ]; then
    . /etc/default/kubelet
fi
echo "KUBELET_EXTRA_ARGS=$KUBELET_EXTRA_ARGS --fail-cgroupv1=false" > "$1"

#!/bin/sh
# Stands for every iptables program until the first call, which finds out where the kubelet of
# this node put its rules, legacy or nft, and makes all of them that kind.
set -eu

mode=nft
for save in iptables-legacy-save ip6tables-legacy-save; do
    if xtables-legacy-multi "${save%-legacy-save}-save" -t mangle 2>/dev/null |
        grep -q -e KUBE-IPTABLES-HINT -e KUBE-KUBELET-CANARY; then
        mode=legacy
    fi
done

for name in iptables ip6tables; do
    for kind in "" -save -restore; do
        ln -sf "xtables-$mode-multi" "/usr/sbin/$name$kind"
    done
done

exec "/usr/sbin/${0##*/}" "$@"

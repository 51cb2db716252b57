#!/bin/sh
# Tells containerd in its configuration $1 not to lower oom_score_adj where the machine withholds
# CAP_SYS_RESOURCE (bit 24).
set -eu

bounding=$((0x$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)))
if [ $(((bounding >> 24) & 1)) -eq 0 ]; then
    sed -i 's/restrict_oom_score_adj *= *false/restrict_oom_score_adj = true/' "$1"
fi

"""Every number of seconds in this project, with its reason."""

# --- one attempt -----------------------------------------------------------------------------
# A connection on the same machine or network opens within a few milliseconds; Linux sends the
# second SYN after 1 s. Longer than that is silence, with room for a busy machine.
ATTEMPT = 2.0

# --- looking until it settles ----------------------------------------------------------------
# kube-proxy syncs at most once a second in kind and may have one sync to catch up with.
SETTLE_WITHIN = 30.0
LOOK_EVERY = 0.1
LOOKS_IN_A_ROW = 3

# --- waiting for the cluster -----------------------------------------------------------------
# A pod whose image is on the node is Ready in 1 to 3 s; the rest is for a starved CPU or a pull.
PODS_READY_WITHIN = 120.0
PODS_GONE_WITHIN = 60.0
NODES_READY_WITHIN = 180.0
POLL_EVERY = 0.25
# One request to the API server; a small control plane under load answers within a few seconds.
API_REQUEST = 30.0
# A namespace goes when its pods have gone; echoes end at once.
NAMESPACE_GONE_WITHIN = 120.0

# --- making and removing a cluster -----------------------------------------------------------
# `kind create cluster` takes 22 s on two idle cores.
CLUSTER_CREATE_WITHIN = 600.0
CLUSTER_DELETE_WITHIN = 120.0
# Another process of the same run makes the cluster while this one waits for it.
CLUSTER_LOCK_WITHIN = CLUSTER_CREATE_WITHIN + 60.0
# Commands that only ask something of the engine, kind or a node.
COMMAND = 60.0

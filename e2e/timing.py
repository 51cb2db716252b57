"""Every number of seconds in this project, with its reason."""

# --- one attempt -----------------------------------------------------------------------------
# A connection on the same machine or network opens within a few milliseconds. Linux repeats a
# lost SYN after 1 s and 3 s; who is still silent after that is silent.
ATTEMPT = 3.5
# A pod that waits for its turn on a busy machine was seen to take longer than that. Once the way
# is open, and over UDP, where nothing is sent again, its answer is waited for so much longer.
REPLY = ATTEMPT

# Linux waits 1 s for the answer to its first packet; earlier than this it has not sent another.
SYN_AGAIN = 0.9
# A node remembers for 120 s where it sent the first packet of a caller who got no answer
# (nf_conntrack_tcp_timeout_syn_sent).
NODES_FORGET_CALLER = 125.0

# --- looking until it settles ----------------------------------------------------------------
# kube-proxy syncs at most once a second in kind and may have one sync to catch up with.
SETTLE_WITHIN = 30.0
# Looking costs the processor time that the cluster needs to get there, so it is done seldom
# until a look agrees, and then soon again.
LOOK_EVERY = 0.3
LOOK_AGAIN = 0.05
LOOKS_IN_A_ROW = 3
# A change that must change nothing is watched for longer than kube-proxy takes to act on it: it
# syncs a second after the last time at the latest, and the sync takes well below a second.
WATCH_FOR = 3.0
# A node that has rules but no pod refuses by ICMP, and Linux sends one caller at most one such
# message a second after a burst of six (net.ipv4.icmp_ratelimit); asked faster, it looks silent.
LOOK_FOR_REFUSAL_EVERY = 2.0

# Between two rounds over all flows that a change has not reached; a round takes some 20 ms, and
# what is measured are tenths of a second.
ASK_FOR_ARRIVAL = 0.02
# Hundreds of Services at once: a node's proxy syncs them in a few goes, each of which takes longer
# the more there are, and the machine creates them meanwhile.
MANY_SERVED_WITHIN = 90.0
# Who sends packets astray is a process of its own; on a busy machine it is behind what it reads.
STRAYS_WITHIN = 20.0
# A pod network that enforces a policy does so within a second or two of its creation.
POLICY_ENFORCED_WITHIN = 5.0
# --- disturbing ------------------------------------------------------------------------------
# kube-proxy looks every 30 s whether its rules are still there, and tries as often again what
# failed (syncPeriod); the rest is for the sync itself on a busy machine.
RULES_BACK_WITHIN = 60.0
HEALTHY_WITHIN = RULES_BACK_WITHIN
# A watch of the API server that has ended is asked for again after 1 to 60 s: twice as long each
# time, up to 30 s, and as much again by chance (client-go's reflector).
FOLLOWED_WITHIN = 120.0
# It is unhealthy when what is to be written is so for twice the time.
UNHEALTHY_WITHIN = 90.0
# A node is held for lost 50 s after its last word (node-monitor-grace-period), its pods at once.
NODE_LOST_WITHIN = 120.0
# A node of kind has its kube-proxy again 10 to 40 s after it was started on two cores.
NODE_BACK_WITHIN = 120.0
# A kubelet renews its Lease every 10 s, after 21 s on two busy cores; the Lease says that it lasts
# for 40 s (leaseDurationSeconds).
HEARD_WITHIN, HEARD_EVERY = 30.0, 1.0
NODE_MISSED_AFTER = 40.0
# What an answer takes, and the part of a second that HTTP's Date leaves out.
CLOCKS_DIFFER = 3.0
# Who starts a node again by hand, or has it repaired by a cloud, takes minutes.
NODES_BACK_WITHIN, NODES_BACK_EVERY = 300.0, 2.0
# Long enough for a node to be missed, if anybody could tell the others.
API_AWAY_FOR = 60.0
# Of an outage the share of attempts that failed is told for every so many seconds.
OUTAGE_STEP = 5.0

# --- breaking --------------------------------------------------------------------------------
# An admission policy is heard of by the API server that admits within a second or two.
FAULT_IN_FORCE_WITHIN = 30.0
# What is broken is so before clauses begin, and stays; they look at silent flows every 4 s, and the
# last three looks tell which flows are wrong.
SETTLE_BROKEN_WITHIN = 16.0

# --- watching --------------------------------------------------------------------------------
# The first replies come within milliseconds; a silent target has its say after an attempt.
SAMPLER_START_WITHIN = ATTEMPT + 10.0
# A vantage in a pod is asked for so many calls at once, which takes a tenth of a second.
CALLS_AT_ONCE = 5
# A stream of 20 datagrams a second that brings none for so long has ended.
STREAM_GOES_ON_WITHIN = 4.0
# Others watch, some of them for a minute; who still has no place then watches beside them.
PLACE_WITHIN = 180.0
# Three nodes are asked 330 times a second, and nobody wants more than 10,000 attempts.
ATTEMPTS_WITHIN = 60.0
# A sampler that was kept from asking for longer than this saw too little to call it unbroken.
BLIND_FOR_AT_MOST = 2.0

# Who kills a watch loses at most a second of it: what is flushed, and what is summed up.
RECORD_FLUSHED_EVERY = 0.2
RECORD_SUMMED_EVERY = 0.7
# Who finds the folder in use waits for recorders whose watch was killed: they notice at the next
# flush, and hear late replies until patience is over.
RECORD_FREE_WITHIN = 10.0
# A recorder writes its first line when Python has started, which takes a second, and was seen to
# take a minute with a load of 46 on two cores.
RECORDER_STARTS_WITHIN = 120.0
# It ends as above; what a starved one has not written yet is worth waiting for.
RECORDER_ENDS_WITHIN = 15.0
# A recorder that died is started again, and not a thousand times if it dies at once.
RECORDER_AGAIN = 1.0
# Lost attempts with no more than this between them are one outage. Where one of three pods is gone,
# two thirds of new connections are answered, and ten in a row once in sixty times.
ONE_OUTAGE_WITHIN = 0.5
# A kept connection that ended was opened again at once: by the next beat, or the one after.
REOPENED_WITHIN = 0.15
# What happened so long before an outage, or so soon after it began to be seen, may be its reason:
# kube-proxy syncs a second after a change, and what the API server tells is late on busy machines.
REASON_BEFORE = 3.0
REASON_AFTER = 1.0
# What is shown is read from the record; more often would cost more than the recorder.
SHOWN_EVERY = 0.5
# The one who looks whether a command has ended, or a file is there.
WATCH_POLL = 0.1

# How often a terminal shows how far a run is, and a log that nobody looks at.
PROGRESS_LIVE = 0.5
PROGRESS_LOGGED = 30.0
# What is there sooner nobody needs to be told of, nor more often.
WAIT_TOLD_AFTER = 1.0

# --- affinity --------------------------------------------------------------------------------
# Clients that come back after this have waited longer than the brief timeout and over half of the
# lasting one; it leaves seconds for asking them all, which a busy machine needs.
AFFINITY_PAUSE = 9.0
AFFINITY_BRIEF, AFFINITY_LASTING = 2, 15

# --- connections -----------------------------------------------------------------------------
# Programs that keep a connection send a sign of life every 15 s or seldomer (Go's keep-alive), so
# what is forgotten before breaks them; eBPF proxies were seen to forget after 10 s.
IDLE_FOR = 12.0
# Linux forgets a UDP flow that was silent for 30 s (nf_conntrack_udp_timeout).
UDP_IDLE_FOR = 20.0

# --- upgrades --------------------------------------------------------------------------------
# A pod that is drained goes on serving until every node has heard that it is leaving, which takes
# about a second and, on two busy cores, up to 4 s.
WATCHED_LINGER = 6
# Who was wrong for half a minute is asked again after the next change, and will hardly be right;
# all others have to get there meanwhile, and are looked at as often.
SETTLE_AGAIN_WITHIN = SETTLE_BROKEN_WITHIN
# From the word to end until a pod is gone: it lingers, and its kubelet may be busy.
POD_GOES_WITHIN = WATCHED_LINGER + 30.0
# From the moment that a node's power goes until it is back, or is told to be not Ready: 50 s.
NODE_MISSED_WITHIN = 60.0
# kubeadm takes 100 to 150 s for a control plane on two cores, and waits 5 min for each component.
KUBEADM_WITHIN = 1500.0
# Each watched pod takes its linger and a second or two for its successor; 12 to 19 s in all.
DRAIN_WITHIN = 300.0
# CoreDNS is gone for so long: kubelets, proxies and echoes ask no name, so nothing should happen.
DNS_GONE_FOR = 20.0
# What differs by less between two runs nobody calls slower; proxies sync once a second at most.
NOTICED_IN_CONVERGING = 0.5

# --- waiting for the cluster -----------------------------------------------------------------
# A pod whose image is on the node is Ready in 1 to 3 s; the rest is for a starved CPU or a pull.
PODS_READY_WITHIN = 120.0
# Another process of the same run places them meanwhile, and has something to say if it cannot.
PODS_SHARED_WITHIN = PODS_READY_WITHIN + 30.0
NODES_READY_WITHIN = 180.0
POLL_EVERY = 0.25
# One request to the API server; a small control plane under load answers within a few seconds.
API_REQUEST = 30.0
# What was sent by somebody who then hung up is stored soon after, or never.
ARRIVES_WITHIN = 10.0
# So many requests a second a process sends it on average: ten times what a client library of
# Kubernetes sends by default, and a fifth of what a small control plane was seen to bear.
API_RATE = 100.0
# What it turned away is asked again, later each time. Who was away for longer than a restart takes
# on a busy machine is held for gone.
API_AGAIN, API_AGAIN_AT_MOST = 0.25, 5.0
API_BACK_WITHIN = 120.0
# It answers within a second, and on a busy machine within some; whoever waits for it follows late.
API_HELD_AFTER = 10.0
# A watch of the API server is ended by it after so many seconds, and begun again. Without its end
# a server that went away without a word would be listened to for ever.
FOLLOW_FOR = 30
FOLLOW_LISTENS = FOLLOW_FOR + 5.0
# How often it is asked whether it is ready, for how long, and how soon after an error what is
# watched is asked for again: its coming and going is told to a quarter of a second.
READY_EVERY = 0.25
READY_ANSWER = 2.0
FOLLOW_AGAIN = 0.5
# Who holds a lease renews it every 2 s (leader-elect-retry-period).
LEASE_IDLE_AFTER = 5.0
# A machine that has not renewed its lease for so long no longer uses the cluster. Whoever does
# renews it often enough that one answer may be late, and is noticed soon by those who look.
LEASE_LASTS = 30.0
LEASE_RENEWED_EVERY = 5.0
LEASE_LOOKED_AT_EVERY = 1.0
# A watch tells what the API server has stored within milliseconds; it is asked again after 1 s.
TOLD_WITHIN = 30.0
# The API server goes over all allocations of node ports every 3 minutes, and one pass is quick.
REPAIRED_WITHIN = 190.0
LOOK_FOR_REPAIRS_EVERY = 10.0
# A namespace goes when its pods have gone; echoes end at once, and what a killed run left may have
# two minutes.
NAMESPACE_GONE_WITHIN = 240.0
# Pods of the Job have two minutes to end what they ask and to say what they know by then.
JOB_STOPS_WITHIN = 150.0
# Its pods are looked at so often; nothing waits for what is seen.
JOB_LOOKED_AT_EVERY = 2.0
# An image of 130 MB is pulled within that, and what lasts longer will stay.
JOB_HINDERED_FOR = 120.0
# Of the Job's own deadline, which is in manifests/job, and some more.
JOB_ENDS_WITHIN = 7500.0
# A node takes in 130 MB of an image, and others beside it.
IMAGE_LOADED_WITHIN = 300.0

# --- making and removing a cluster -----------------------------------------------------------
# `kind create cluster` takes 22 s on two idle cores.
CLUSTER_CREATE_WITHIN = 600.0
CLUSTER_DELETE_WITHIN = 120.0
# A control plane answers in 0.3 s; more means that it is just coming up, and is asked again.
WELLNESS_ANSWER = 15.0
# Nodes that were started again are well within 20 to 40 s on two cores.
CLUSTER_RECOVER_WITHIN = 180.0
# Another process has the cluster in hand. The longest that takes: one that is there does not
# recover and is removed, the new one does not come up, and its logs are saved.
CLUSTER_LOCK_WITHIN = (
    CLUSTER_RECOVER_WITHIN
    + CLUSTER_DELETE_WITHIN
    + CLUSTER_CREATE_WITHIN
    + NODES_READY_WITHIN
    + CLUSTER_DELETE_WITHIN
    + 120.0
)
# Commands that only ask something of the engine, kind or a node.
COMMAND = 60.0
# What a program is given to end by itself when it is asked to, before it is made to.
PROGRAM_END_WITHIN = 5.0

# --- container engine ------------------------------------------------------------------------
# An engine that works answers within milliseconds, and within seconds on a machine that is full of
# clusters; a client whose daemon is gone fails at once.
ENGINE_ANSWER = 30.0
# dockerd is ready in 2 to 4 s; the first start creates its storage.
ENGINE_START_WITHIN = 45.0
# dockerd stops its containers first and gives each of them 10 s.
ENGINE_STOP_WITHIN = 60.0
# The packages are 60 MB; slow mirrors exist.
ENGINE_INSTALL_WITHIN = 600.0
# Another process installs (lists, packages, and once more after a repair) and starts it.
ENGINE_LOCK_WITHIN = 4 * ENGINE_INSTALL_WITHIN + ENGINE_START_WITHIN + 60.0

# --- node image ------------------------------------------------------------------------------
# A registry that is there names the image within 2 s; 10 s without a word means none answers.
REGISTRY_ANSWER = 10.0
# A node image is 1 GB at most.
IMAGE_PULL_WITHIN = 1800.0
# Go modules of one component come within seconds; the limit is for a slow line.
MODULES_WITHIN = 900.0
# Kubernetes takes 7.5 min on two cores with an empty build cache.
COMPILE_WITHIN = 3600.0
# Another process fetches and compiles kind.
KIND_LOCK_WITHIN = 2 * MODULES_WITHIN + COMPILE_WITHIN + 60.0
# The root file system takes 30 to 75 s.
ROOTFS_WITHIN = 1200.0
# Importing 700 MB of component images takes 10 s, the node image itself 15 s.
IMAGE_IMPORT_WITHIN = 600.0
# Another process builds an image, which may be a whole cold build.
BUILD_LOCK_WITHIN = 5400.0
# Two runs seldom meet, and half a second of delay is not noticed.
LOCK_EVERY = 0.5
# Seconds without a byte of a download.
DOWNLOAD = 30.0

# --- sharing between clauses -----------------------------------------------------------------
# The first process asks for namespaces, nodes and callers that dead runs left; seven requests.
HOME_LOCK_WITHIN = 7 * API_REQUEST + COMMAND
# The first process that needs many callers starts a container for them.
CALLER_SHARED_WITHIN = 2 * COMMAND
# A clause keeps a node port of its own choice for some seconds, at worst until it is timed out.
PORT_LENT_FOR = 600.0

# --- Kubernetes' own specs -------------------------------------------------------------------
# 17 specs take 579 s one after another on two busy cores.
SPECS_WITHIN = 1800.0
# One takes half a minute at most where all is well, and several run at once. Where something is
# broken they wait for two to five minutes, in which they learn nothing more.
SPEC_BROKEN_WITHIN = 180.0

# --- measuring the harness -------------------------------------------------------------------
# Often enough to meet the peak of a run of a minute; one look costs some milliseconds.
MEMORY_LOOK_EVERY = 0.5
# Long enough for ten thousand connections, so that starting and ending do not show.
CONNECT_FOR = 5.0

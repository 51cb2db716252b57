#!/bin/bash
# The pod network of one node:
# - a CNI configuration that gives its pods addresses of the node's own ranges;
# - a route to the pods of each other node, over that node's address;
# - "unreachable" for every other pod address, so that a packet to a pod that does not exist is
#   answered at once and never leaves by the default route;
# - masquerading of what pods send to addresses that are not pods.
# It is done again whenever a node comes, goes or changes.
set -euo pipefail

: "${NODE_NAME:?}" "${POD_SUBNET:?}"
CONFIGURATION=/etc/cni/net.d/10-pod-network.conflist
# Marks the routes that are ours, so that old ones can be told and removed.
PROTOCOL=86

# The control plane is asked directly where its address is known, so that this works before
# kube-proxy does, and without it.
ACCOUNT=/var/run/secrets/kubernetes.io/serviceaccount
export KUBECONFIG="${TMPDIR:-/tmp}/kubeconfig"
cat > "$KUBECONFIG" <<END
apiVersion: v1
kind: Config
clusters:
  - name: this
    cluster:
      server: https://${CONTROL_PLANE_ENDPOINT:-$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT}
      certificate-authority: $ACCOUNT/ca.crt
users:
  - name: this
    user:
      tokenFile: $ACCOUNT/token
contexts:
  - name: this
    context:
      cluster: this
      user: this
current-context: this
END

is_ipv6() { [[ "$1" == *:* ]]; }

family_of() { if is_ipv6 "$1"; then echo 6; else echo 4; fi; }

# One line a node: NAME|RANGE RANGE|ADDRESS ADDRESS
list_nodes() {
    kubectl get nodes --request-timeout=10s -o jsonpath='{range .items[*]}{.metadata.name}|{.spec.podCIDRs[*]}|{.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}'
}

mtu() {
    local device
    device=$( (ip -4 route show default; ip -6 route show default) |
        sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
    cat "/sys/class/net/${device:-eth0}/mtu"
}

write_configuration() {
    local range ranges="" routes=""
    for range in "$@"; do
        ranges+="${ranges:+, }[{ \"subnet\": \"$range\" }]"
        if is_ipv6 "$range"; then
            routes+="${routes:+, }{ \"dst\": \"::/0\" }"
        else
            routes+="${routes:+, }{ \"dst\": \"0.0.0.0/0\" }"
        fi
    done
    local wanted
    wanted=$(
        cat <<END
{
  "cniVersion": "0.4.0",
  "name": "pod-network",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": false,
      "mtu": $(mtu),
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/cni-ipam-state",
        "ranges": [$ranges],
        "routes": [$routes]
      }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
END
    )
    if [[ "$wanted" != "$(cat "$CONFIGURATION" 2>/dev/null)" ]]; then
        # Hidden until it is whole: containerd reads a file of this folder as soon as it changes.
        echo "$wanted" > "${CONFIGURATION%/*}/.new"
        mv "${CONFIGURATION%/*}/.new" "$CONFIGURATION"
        echo "pods of this node get addresses of $*"
    fi
}

# Lines "FAMILY DESTINATION WORDS...": what the routes should be.
wanted_routes() {
    local nodes="$1" name ranges addresses range address
    for range in ${POD_SUBNET//,/ }; do
        echo "$(family_of "$range") $range unreachable"
    done
    while IFS='|' read -r name ranges addresses; do
        for range in $ranges; do
            if [[ "$name" == "$NODE_NAME" ]]; then
                echo "$(family_of "$range") $range unreachable"
                continue
            fi
            for address in $addresses; do
                if [[ "$(family_of "$range")" == "$(family_of "$address")" ]]; then
                    echo "$(family_of "$range") $range via $address"
                    break
                fi
            done
        done
    done <<< "$nodes"
}

set_routes() {
    local wanted="$1" family destination words
    while read -r family destination words; do
        if [[ "$words" == unreachable ]]; then
            ip "-$family" route replace unreachable "$destination" proto "$PROTOCOL"
        else
            # shellcheck disable=SC2086  # "via ADDRESS" is two words
            ip "-$family" route replace "$destination" $words proto "$PROTOCOL"
        fi
    done <<< "$wanted"
    for family in 4 6; do
        ip "-$family" route show proto "$PROTOCOL" | sed 's/^unreachable //' |
            while read -r destination words; do
                if ! grep -q "^$family $destination " <<< "$wanted"; then
                    ip "-$family" route del "$destination" proto "$PROTOCOL"
                    echo "no node has $destination any more"
                fi
            done
    done
}

set_masquerade() {
    local range rules=""
    for range in ${POD_SUBNET//,/ }; do
        if is_ipv6 "$range"; then
            rules+="ip6 saddr $range ip6 daddr != $range masquerade;"
        else
            rules+="ip saddr $range ip daddr != $range masquerade;"
        fi
    done
    nft -f - <<END
table inet pod-network
delete table inet pod-network
table inet pod-network {
    chain leave {
        type nat hook postrouting priority srcnat + 10;
        ${rules//;/$'\n'        }
    }
}
END
}

set_up() {
    local nodes own
    nodes=$(list_nodes) || return 1
    own=$(sed -n "s/^$NODE_NAME|\([^|]*\)|.*/\1/p" <<< "$nodes")
    set_routes "$(wanted_routes "$nodes")" || return 1
    if [[ -z "$own" ]]; then
        echo "this node has no range of pod addresses yet"
        return 1
    fi
    # shellcheck disable=SC2086  # one or two ranges
    write_configuration $own
}

# The first process of a container ends by no signal that it does not catch.
trap 'exit 0' TERM INT

set_masquerade
while true; do
    if set_up; then
        # Prints a line for each node at first, then for each change; ends after five minutes.
        while read -r _; do
            while read -r -t 0.2 _; do :; done
            set_up || true
        done < <(kubectl get nodes --watch --request-timeout=300s -o name 2>/dev/null)
    fi
    sleep 1
done

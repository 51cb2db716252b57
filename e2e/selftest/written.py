"""Some of what kube-proxy v1.37 writes in each of its modes, shortened."""

IPTABLES = """\
*filter
:KUBE-NODEPORTS - [0:0]
-A KUBE-EXTERNAL-SERVICES -m comment --comment "ns/a has no endpoints" --dport 30001 -j REJECT
-A KUBE-EXTERNAL-SERVICES -m comment --comment "ns/b has no local endpoints" --dport 30002 -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name dropped -j DROP
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-EXT-A1 - [0:0]
:KUBE-EXT-OLD1 - [0:0]
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-SERVICES -m comment --comment "ns/a cluster IP" -p tcp -d 10.96.0.3 -j KUBE-SVC-A1
-A KUBE-SERVICES -m comment --comment "ns/a external IP" -p tcp -d 192.0.2.3 -j KUBE-EXT-A1
-A KUBE-NODEPORTS -m comment --comment ns/a -m tcp -p tcp --dport 30003 -j KUBE-EXT-A1
-A KUBE-NODEPORTS -m comment --comment ns/a:u -m udp -p udp --dport 30003 -j KUBE-EXT-A2
-A KUBE-EXT-A1 -m comment --comment "pod traffic for ns/a external destinations" -j KUBE-SVC-A1
-A KUBE-EXT-A1 -j KUBE-SVL-A1
-A KUBE-SVC-A1 -m recent --name KUBE-SEP-B --rcheck --seconds 15 --reap -j KUBE-SEP-B
-A KUBE-SVL-A1 -m recent --name KUBE-SEP-B --rcheck --seconds 15 --reap -j KUBE-SEP-B
-A KUBE-SVC-A1 -m statistic --mode random --probability 0.3333333333 -j KUBE-SEP-B
-A KUBE-SVC-A1 -m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-C
-A KUBE-SEP-B -m comment --comment ns/a -s 10.244.1.4 -j KUBE-MARK-MASQ
-A KUBE-SEP-B -m recent --name B --set -p tcp -j DNAT --to-destination 10.244.1.4:8080
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-X KUBE-EXT-OLD1
COMMIT
"""
NFTABLES = """\
add rule ip kube-proxy masquerading ct status dnat ip saddr @hairpin-connections masquerade
add rule ip kube-proxy services ip daddr @nodeport-ips \
meta l4proto . th dport vmap @service-nodeports
add set ip kube-proxy affinity-A-ns/a/tcp/b { type ipv4_addr ; flags timeout ; timeout 15s ; }
add rule ip kube-proxy service-A-ns/a/tcp/ ip saddr @affinity-A-ns/a/tcp/b goto endpoint-A-b
add rule ip kube-proxy local-A-ns/a/tcp/ ip saddr @affinity-A-ns/a/tcp/b goto endpoint-A-b
add rule b numgen random mod 3 map { 0 : 10.4 . 8080 , 1 : 10.5 . 8080 , 2 : 10.6 . 8080 }
add rule ip kube-proxy external-A-ns/a/tcp/ mark set mark or 0x00004000 comment "masquerade"
add rule ip kube-proxy external-A-ns/a/tcp/ goto service-A comment "short-circuit pod traffic"
add rule ip kube-proxy external-A-ns/a/tcp/ goto local-A-ns/a/tcp/
add element ip kube-proxy service-nodeports { tcp . 30003 : goto external-A-ns/a/tcp/ }
add element ip kube-proxy service-nodeports { udp . 30003 : goto external-A-ns/a/udp/u }
add element ip kube-proxy service-ips { 10.96.0.3 . tcp . 80 : goto service-A-ns/a/tcp/ }
add element ip kube-proxy no-endpoint-nodeports { tcp . 30001 comment "ns/c" : goto reject-chain }
add element ip kube-proxy no-endpoint-nodeports { tcp . 30002 comment "ns/c" : drop }
delete element ip kube-proxy service-nodeports { tcp . 30009 }
"""
# What an API server v1.37 answers to such requests: the request, the code, and a part of the body.
OF_SERVICES = "/api/v1/namespaces/ns/services"
ANSWERS = [
    (f"POST {OF_SERVICES}", 422, '{"message":"provided port is already allocated","code":422}'),
    (
        f"POST {OF_SERVICES}",
        422,
        '{"message":"Invalid value: 29999: provided port is not in the valid range","code":422}',
    ),
    (f"POST {OF_SERVICES}", 422, '{"causes":[{"field":"spec.ports[0].nodePort"}],"code":422}'),
    (f"PATCH {OF_SERVICES}/a", 200, '{"spec":{"ports":[{"protocol":"UDP","port":53}]}}'),
    (f"PATCH {OF_SERVICES}/a/status", 200, '{"status":{"conditions":[{"type":"Seen"}]}}'),
    (f"GET {OF_SERVICES}", 200, '{"kind":"Table","rows":[{"cells":["a","80:30008/TCP"]}]}'),
    (f"GET {OF_SERVICES}?watch=true", 200, '{"type":"MODIFIED","object":{"kind":"Service"}}'),
    (f"GET {OF_SERVICES}?labelSelector=&fieldSelector=spec.type%3DNodePort", 200, "{}"),
    (f"POST {OF_SERVICES}?dryRun=All", 201, "{}"),
]

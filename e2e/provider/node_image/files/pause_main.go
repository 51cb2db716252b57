// pause holds a pod's namespaces: it does nothing until it is told to end, and reaps the
// children that it inherits when the pod shares its process namespace.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// kubeadm asks for this before an upgrade, to see whether a pod comes to its end.
	if len(os.Args) > 1 && os.Args[1] == "-v" {
		fmt.Println("pause of nodeport-e2e")
		return
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}

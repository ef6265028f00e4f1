package main

import (
	"net"
	"os"
)

// notify tells systemd about the state of the service (sd_notify(3)): "READY=1", "STOPPING=1", "RELOADING=1", "STATUS=...". Without systemd it does
// nothing.
func notify(state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"}) // "@" at the start: the abstract namespace, as net has it
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(state)) // whether systemd listens changes nothing here
}

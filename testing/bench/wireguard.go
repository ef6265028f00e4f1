package main

import (
	"bufio"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// wireguardModule is built from the module cache, at the version in go.mod.
const wireguardModule = "golang.zx2c4.com/wireguard"

// wireguardSocket is where wireguard-go opens the control socket of an interface: in the file system that all namespaces share, so that names must
// differ.
func wireguardSocket(name string) string { return "/var/run/wireguard/" + name + ".sock" }

func wireguardNames() [2]string {
	return [2]string{fmt.Sprintf("wgw%d", os.Getpid()), fmt.Sprintf("wge%d", os.Getpid())}
}

// wireguard starts a wireguard-go on each host and joins them.
func wireguard(west, east *netns.Host) (*carrier, error) {
	program := filepath.Join(west.Dir(), "wireguard-go")
	if out, err := exec.Command("go", "build", "-o", program, wireguardModule).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building wireguard-go: %w: %s", err, out)
	}
	c := &carrier{name: "wireguard-go, ChaCha20-Poly1305", from: west, to: east, src: "10.99.0.1", dst: "10.99.0.2"}
	names := wireguardNames()
	ends := []*wireguardEnd{
		{host: west, name: names[0], addr: c.src, peerAddr: c.dst, endpoint: netns.East + ":51820"},
		{host: east, name: names[1], addr: c.dst, peerAddr: c.src, endpoint: netns.West + ":51820"},
	}
	for _, e := range ends {
		var err error
		if e.key, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return nil, err
		}
		if err := e.start(program); err != nil {
			return nil, err
		}
		c.daemons = append(c.daemons, pid{"wireguard-go " + e.host.Name, e.cmd.Process.Pid})
	}
	return c, errors.Join(ends[0].configure(ends[1]), ends[1].configure(ends[0]))
}

// wireguardEnd is one wireguard-go. Its process ends with the host's namespace.
type wireguardEnd struct {
	host                     *netns.Host
	name                     string
	addr, peerAddr, endpoint string
	key                      *ecdh.PrivateKey
	cmd                      *exec.Cmd
}

func (e *wireguardEnd) start(program string) error {
	e.cmd = e.host.Command(context.Background(), program, "-f", e.name)
	e.cmd.Env = append(os.Environ(), "LOG_LEVEL=error", "WG_PROCESS_FOREGROUND=1")
	e.cmd.Stderr = os.Stderr
	if err := e.cmd.Start(); err != nil {
		return err
	}
	go e.cmd.Wait()
	if !netns.Poll(5*time.Second, func() bool { _, err := os.Stat(wireguardSocket(e.name)); return err == nil }) {
		return errors.New("wireguard-go does not answer")
	}
	return nil
}

// configure speaks wireguard's configuration protocol, so that wireguard-tools are not needed.
func (e *wireguardEnd) configure(peer *wireguardEnd) error {
	conn, err := net.Dial("unix", wireguardSocket(e.name))
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Fprintf(conn, "set=1\nprivate_key=%s\nlisten_port=51820\npublic_key=%s\nendpoint=%s\nallowed_ip=%s/32\n\n",
		hex.EncodeToString(e.key.Bytes()), hex.EncodeToString(peer.key.PublicKey().Bytes()), e.endpoint, e.peerAddr)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if strings.TrimSpace(answer) != "errno=0" {
		return fmt.Errorf("wireguard-go refused its configuration: %s", answer)
	}
	return errors.Join(
		e.host.Run("ip", "addr", "add", e.addr+"/24", "dev", e.name),
		e.host.Run("ip", "link", "set", e.name, "up"),
	)
}

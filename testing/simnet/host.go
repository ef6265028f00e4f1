package simnet

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// Host is one host's transport. It implements transport.Mux. Safe for concurrent use.
type Host struct {
	net  *Network
	name string
	addr netip.Addr

	mu       sync.Mutex // guards all below; never held while net.mu is taken or a handler is called
	handler  transport.Handler
	tcpPort  uint16          // zero: no listener
	opened   map[uint16]bool // further ports, of UDP and of TCP
	busy     map[uint16]bool // ports that another program holds
	nextPort uint16
	ends     map[uint64]*end // streams by generation
}

var (
	_ transport.Mux        = (*Host)(nil)
	_ transport.PortOpener = (*Host)(nil)
)

// Start lets messages in. tcpPort is where the host listens on TCP; zero: nowhere.
func (h *Host) Start(handler transport.Handler, tcpPort uint16) {
	h.mu.Lock()
	h.handler, h.tcpPort, h.nextPort = handler, tcpPort, 40000
	h.mu.Unlock()
}

// OpenPort implements transport.PortOpener.
func (h *Host) OpenPort(port uint16, _ bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.busy[port] {
		return errBusy
	}
	h.opened[port] = true
	return nil
}

// ClosePort implements transport.PortOpener.
func (h *Host) ClosePort(port uint16) {
	h.mu.Lock()
	delete(h.opened, port)
	h.mu.Unlock()
}

// opens reports whether the host listens on a port of UDP, or of TCP.
func (h *Host) opens(port uint16, stream bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if stream {
		return h.handler != nil && h.tcpPort != 0 && (h.tcpPort == port || h.opened[port])
	}
	return port == iana.PortIKE || port == iana.PortIKENATT || h.opened[port]
}

func (h *Host) current() transport.Handler {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.handler
}

// receive hands a datagram to the engine. What it drops is gone, as with a full socket buffer.
func (h *Host) receive(d transport.Datagram) {
	if !h.opens(d.Path.Local.Port(), false) {
		return
	}
	if handler := h.current(); handler != nil {
		handler.IKE(d)
	}
}

// Send implements transport.Mux.
func (h *Host) Send(p path.Path, parts ...[]byte) error {
	var data []byte
	for _, part := range parts {
		data = append(data, part...)
	}
	if !p.Kind.Stream() {
		h.net.datagram(h, p, data)
		return nil
	}
	e := h.end(p)
	if e == nil || !e.open() {
		return transport.ErrNoPath
	}
	h.net.segment(e, data)
	return nil
}

// SendESP implements transport.Mux. The simulation carries no traffic.
func (h *Host) SendESP(path.Path, []byte, int) error { return transport.ErrNoPath }

// UDPPath implements transport.Mux.
func (h *Host) UDPPath(local netip.Addr, localPort uint16, remote netip.AddrPort) (path.Path, error) {
	if !h.opens(localPort, false) {
		return path.Path{}, transport.ErrNoPath
	}
	return path.Path{Local: netip.AddrPortFrom(local, localPort), Remote: remote, Kind: path.UDP}, nil
}

// Dial implements transport.Mux.
func (h *Host) Dial(ctx context.Context, _ netip.Addr, remote netip.AddrPort) (path.Path, error) {
	answer := make(chan dialed, 1)
	h.net.connect(h, remote, answer)
	select {
	case d := <-answer:
		return d.path, d.err
	case <-ctx.Done():
		return path.Path{}, fmt.Errorf("connecting to %s: no answer: %w", remote, ctx.Err())
	}
}

type dialed struct {
	path path.Path
	err  error
}

// CloseStream implements transport.Mux.
func (h *Host) CloseStream(p path.Path) {
	if e := h.end(p); e != nil {
		h.net.finish(e)
	}
}

// Own implements transport.Mux.
func (h *Host) Own(p path.Path) {
	if e := h.end(p); e != nil {
		h.mu.Lock()
		e.owned = true
		h.mu.Unlock()
	}
}

// Resume implements transport.Mux.
func (h *Host) Resume(p path.Path) {
	if e := h.end(p); e != nil {
		e.pump()
	}
}

// KeepAlive implements transport.Mux. There is no NAT here.
func (h *Host) KeepAlive(path.Path, time.Duration) {}

// Streams is how many streams the host has open.
func (h *Host) Streams() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ends)
}

// all are the streams by generation.
func (h *Host) all() []*end {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*end
	for _, g := range slices.Sorted(maps.Keys(h.ends)) {
		out = append(out, h.ends[g])
	}
	return out
}

func (h *Host) end(p path.Path) *end {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ends[p.Generation]
}

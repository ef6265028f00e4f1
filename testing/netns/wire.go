package netns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Wire captures what arrives on the outer interface of a host, before any rule of the host sees it, and counts the frames that hold a text: clear text is
// found whatever carries it.
type Wire struct {
	fd    int
	texts map[string]*atomic.Uint64
	done  chan struct{}
	stop  sync.Once
}

// Capture begins to count frames by the texts in them. The end of the lab ends it.
func (h *Host) Capture(texts ...string) (*Wire, error) {
	w := &Wire{texts: map[string]*atomic.Uint64{}, done: make(chan struct{})}
	for _, text := range texts {
		w.texts[text] = new(atomic.Uint64)
	}
	err := h.Do(func() (err error) {
		w.fd, err = packetSocket(unix.SOCK_RAW, unix.ETH_P_ALL)
		return err
	})
	if err != nil {
		return nil, err
	}
	go w.run()
	h.lab.OnClose(func() error {
		w.stop.Do(func() { close(w.done) })
		return nil
	})
	return w, nil
}

// packetSocket opens a socket on the outer interface of the namespace that the thread is in.
func packetSocket(kind, protocol int) (int, error) {
	link, err := net.InterfaceByName(Outer)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, kind|unix.SOCK_CLOEXEC, int(bigEndian(uint16(protocol))))
	if err != nil {
		return -1, fmt.Errorf("packet socket: %w", err)
	}
	wait := unix.Timeval{Usec: 50_000}
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(uint16(protocol)), Ifindex: link.Index}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait))
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func bigEndian(v uint16) uint16 { return v<<8 | v>>8 }

func (w *Wire) run() {
	defer unix.Close(w.fd)
	frame := make([]byte, 1<<17)
	for {
		select {
		case <-w.done:
			return
		default:
		}
		n, from, err := unix.Recvfrom(w.fd, frame, 0)
		if link, ok := from.(*unix.SockaddrLinklayer); err != nil || !ok || link.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		for text, count := range w.texts {
			if bytes.Contains(frame[:n], []byte(text)) {
				count.Add(1)
			}
		}
	}
}

// Seen is how many frames held each text since the capture began.
func (w *Wire) Seen() map[string]uint64 { return load(w.texts) }

func load(counts map[string]*atomic.Uint64) map[string]uint64 {
	out := map[string]uint64{}
	for text, n := range counts {
		out[text] = n.Load()
	}
	return out
}

const talkPort = "9999"

// repeat calls f until the lab ends.
func (h *Host) repeat(f, end func()) {
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(4 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				end()
				return
			case <-tick.C:
				f()
			}
		}
	}()
	h.lab.OnClose(func() error {
		close(quit)
		<-gone
		return nil
	})
}

// Ears counts what is delivered to one UDP port of some addresses of a host, and sends from there.
type Ears struct {
	host    *Host
	sockets map[string]net.PacketConn // by address

	mu    sync.Mutex
	heard map[string]uint64
}

// Heard is how often each text was delivered.
func (e *Ears) Heard() map[string]uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.heard)
}

// Listens counts what is delivered to addresses of this host, until the lab ends.
func (h *Host) Listens(addrs ...string) (*Ears, error) {
	e := &Ears{host: h, sockets: map[string]net.PacketConn{}, heard: map[string]uint64{}}
	for _, a := range addrs {
		var c net.PacketConn
		if err := h.Do(func() (err error) { c, err = net.ListenPacket("udp", net.JoinHostPort(a, talkPort)); return err }); err != nil {
			return nil, err
		}
		e.sockets[a] = c
		go func() {
			buf := make([]byte, 1<<16)
			for {
				n, _, err := c.ReadFrom(buf)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				text, _, _ := bytes.Cut(buf[:n], []byte{0})
				e.mu.Lock()
				e.heard[string(text)]++
				e.mu.Unlock()
			}
		}()
		h.lab.OnClose(c.Close)
	}
	return e, nil
}

// Talk sends a text every few milliseconds, from one of the addresses to other ears, until the lab ends. In a packet of more octets the text is there again and
// again, so that each fragment of it has it. What the system refuses to send is not sent, and counts for nothing.
func (e *Ears) Talk(from, to, text string, octets int) error {
	remote, err := net.ResolveUDPAddr("udp", net.JoinHostPort(to, talkPort))
	if err != nil {
		return err
	}
	packet := bytes.Repeat(append([]byte(text), 0), max(1, octets/(len(text)+1)))
	e.host.repeat(func() { e.sockets[from].WriteTo(packet, remote) }, func() {})
	return nil
}

// Forge puts a UDP packet with a text onto the wire every few milliseconds, with any source address: no route, rule or policy of this host has a say.
func (h *Host) Forge(target *Host, from, to, text string) error {
	mac, err := target.Output("cat", "/sys/class/net/"+Outer+"/address")
	if err != nil {
		return err
	}
	hw, err := net.ParseMAC(strings.TrimSpace(mac))
	if err != nil {
		return err
	}
	packet, protocol := forged(netip.MustParseAddr(from), netip.MustParseAddr(to), text)
	var fd, link int
	err = h.Do(func() (err error) {
		i, err := net.InterfaceByName(Outer)
		if err != nil {
			return err
		}
		link = i.Index
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return err
	}
	at := &unix.SockaddrLinklayer{Protocol: bigEndian(protocol), Ifindex: link, Halen: 6}
	copy(at.Addr[:], hw)
	h.repeat(func() { unix.Sendto(fd, packet, 0, at) }, func() { unix.Close(fd) })
	return nil
}

// forged is an IP packet with UDP.
func forged(from, to netip.Addr, text string) (packet []byte, protocol uint16) {
	datagram := binary.BigEndian.AppendUint16(nil, 9999) // talkPort
	datagram = binary.BigEndian.AppendUint16(datagram, 9999)
	datagram = binary.BigEndian.AppendUint16(datagram, uint16(8+len(text)))
	datagram = append(binary.BigEndian.AppendUint16(datagram, 0), text...)
	if from.Is4() {
		header := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
		header = append(append(header, from.AsSlice()...), to.AsSlice()...)
		binary.BigEndian.PutUint16(header[2:], uint16(20+len(datagram)))
		binary.BigEndian.PutUint16(header[10:], checksum(header))
		return append(header, datagram...), unix.ETH_P_IP // UDP over IPv4 may do without a checksum
	}
	pseudo := append(append(from.AsSlice(), to.AsSlice()...), 0, 0, datagram[4], datagram[5], 0, 0, 0, unix.IPPROTO_UDP)
	binary.BigEndian.PutUint16(datagram[6:], checksum(append(pseudo, datagram...)))
	header := append([]byte{0x60, 0, 0, 0, datagram[4], datagram[5], unix.IPPROTO_UDP, 64}, append(from.AsSlice(), to.AsSlice()...)...)
	return append(header, datagram...), unix.ETH_P_IPV6
}

// checksum is that of the Internet protocols (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		sum += word
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

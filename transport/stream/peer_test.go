package stream

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

var testPath = path.Path{
	Local: netip.MustParseAddrPort("192.1.2.23:4500"), Remote: netip.MustParseAddrPort("192.1.2.45:41000"), Kind: path.TCP, Generation: 7,
}

// got is a message as the stream handed it over.
type got struct {
	kind kind
	data string
}

// sink keeps what a stream hands over, in order.
type sink struct {
	mu      sync.Mutex
	got     []got
	busy    int // so many times IKE is refused first
	offers  int
	changed chan struct{}
	onIKE   func(n int) // after the nth IKE message; may be nil
}

func newSink() *sink { return &sink{changed: make(chan struct{}, 1)} }

func (s *sink) note() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *sink) IKE(d transport.Datagram) bool {
	s.mu.Lock()
	s.offers++
	if s.busy > 0 {
		s.busy--
		s.mu.Unlock()
		s.note()
		return false
	}
	s.got = append(s.got, got{ike, string(d.Data)})
	n := 0
	for _, g := range s.got {
		if g.kind == ike {
			n++
		}
	}
	s.mu.Unlock()
	s.note()
	if s.onIKE != nil {
		s.onIKE(n)
	}
	return true
}

func (s *sink) InputESP(_ path.Path, packets [][]byte) {
	s.mu.Lock()
	for _, p := range packets {
		s.got = append(s.got, got{esp, string(p)})
		clear(p) // a datapath decrypts in place: nothing of a neighbour may be hit
	}
	s.mu.Unlock()
	s.note()
}

func (s *sink) all() []got {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]got(nil), s.got...)
}

func (s *sink) config() Config {
	return Config{Path: testPath, IKE: s.IKE, ESP: s}
}

func ikeMessage(body string) []byte {
	b := make([]byte, transport.IKEHeaderLen, transport.IKEHeaderLen+len(body))
	b[0] = 0x11
	b = append(b, body...)
	binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	return b
}

func espPacket(seq uint32, size int) []byte {
	b := bytes.Repeat([]byte{byte(seq)}, size)
	binary.BigEndian.PutUint32(b, 0xc0ffee01)
	binary.BigEndian.PutUint32(b[4:], seq)
	return b
}

func frame(msg []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(msg)+lengthLen)), msg...)
}

func ikeFrame(body string) []byte { return appendIKE(nil, ikeMessage(body)) }

// run runs a stream and returns its reason, later, on a channel.
func run(s *Conn) <-chan error {
	c := make(chan error, 1)
	go func() { c <- s.Run() }()
	return c
}

// chopped is a connection without a peer: its reads end where cuts says, its writes go nowhere.
type chopped struct {
	net.Conn // nil: what is not defined below is not called
	data     []byte
	cuts     []byte // sizes of the reads, over and over; 0 means 1
	at       int
}

func (c *chopped) Read(b []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := len(c.data)
	if len(c.cuts) > 0 {
		n = min(n, 1+int(c.cuts[c.at%len(c.cuts)]))
		c.at++
	}
	n = copy(b, c.data[:n])
	c.data = c.data[n:]
	return n, nil
}

func (c *chopped) Write(b []byte) (int, error)      { return len(b), nil }
func (c *chopped) Close() error                     { return nil }
func (c *chopped) SetDeadline(time.Time) error      { return nil }
func (c *chopped) SetReadDeadline(time.Time) error  { return nil }
func (c *chopped) SetWriteDeadline(time.Time) error { return nil }

// tcpPair is a connected pair of real sockets.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); d.Close() })
	return c.(*net.TCPConn), d.(*net.TCPConn)
}

package xfrm

import (
	"fmt"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel/xfrm/message"
)

// conn is a NETLINK_XFRM socket for requests, each with its answer. The kernel answers within the system call, so a request takes microseconds. Safe for
// concurrent use.
type conn struct {
	mu     sync.Mutex
	socket *nl.NetlinkSocket
	seq    nl.SocketHandle
	port   uint32 // the socket's, by which the kernel tells others whose doing a change was
	// refuse, if set, is asked for an error before each request: what a test cannot make a kernel do. Only the owner of the conn sets it.
	refuse func(message.Type) error
}

// answerTimeout is a safeguard: the kernel answers at once or never.
var answerTimeout = unix.Timeval{Sec: 10}

func dial() (*conn, error) {
	s, err := nl.GetNetlinkSocketAt(-1, -1, unix.NETLINK_XFRM) // in the namespace of this thread
	if err != nil {
		return nil, fmt.Errorf("this kernel has no NETLINK_XFRM (option XFRM_USER; modprobe xfrm_user): %w", err)
	}
	if err := s.SetReceiveTimeout(&answerTimeout); err != nil {
		s.Close()
		return nil, err
	}
	// The kernel's own words with an error; kernels before 4.12 have none.
	_ = s.SetExtAck(true)
	port, err := s.GetPid()
	if err != nil {
		s.Close()
		return nil, err
	}
	return &conn{socket: s, seq: nl.SocketHandle{Socket: s}, port: port}, nil
}

func (c *conn) close() { c.socket.Close() }

// body is a message of package message.
type body interface{ Append([]byte) []byte }

// do sends a request that the kernel confirms.
func (c *conn) do(kind message.Type, m body) error {
	_, err := c.execute(kind, unix.NLM_F_ACK, m)
	return err
}

// get sends a request that the kernel answers with a message.
func (c *conn) get(kind message.Type, m body) ([]byte, error) {
	answers, err := c.execute(kind, 0, m)
	if err == nil && len(answers) == 0 {
		err = fmt.Errorf("the kernel did not answer: %w", unix.EPROTO)
	}
	if err != nil {
		return nil, err
	}
	return answers[0], nil
}

// dump asks for all SAs (GETSA) or policies (GETPOLICY). A change while it runs may make it incomplete, then it is repeated.
func (c *conn) dump(kind message.Type) (answers [][]byte, err error) {
	for range 3 {
		if answers, err = c.execute(kind, unix.NLM_F_DUMP, nil); err == nil {
			return answers, nil
		}
	}
	return nil, err
}

func (c *conn) execute(kind message.Type, flags int, m body) ([][]byte, error) {
	if c.refuse != nil {
		if err := c.refuse(kind); err != nil {
			return nil, err
		}
	}
	r := nl.NewNetlinkRequest(int(kind), flags)
	r.Pid = c.port
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_XFRM: &c.seq}
	if m != nil {
		r.AddRawData(m.Append(nil))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return r.Execute(unix.NETLINK_XFRM, 0)
}

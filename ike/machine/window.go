package machine

import (
	"crypto/sha256"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
)

// The window is one message in each direction (RFC 7296 2.3).

// digest recognises a repeated message: a retransmission is bitwise identical (RFC 7296 2.1).
type digest [16]byte

func digestOf(b []byte) digest {
	s := sha256.Sum256(b)
	return digest(s[:])
}

// inbound is the peer's requests.
type inbound struct {
	next  uint32 // Message ID of the next new request
	last  digest // of the request next-1
	reply []byte // to the request next-1, for a peer that did not get it; freed by the next request
	busy  bool   // the request next is in work
	work  digest // of the request in work
	path  path.Path
}

// outbound is our requests.
type outbound struct {
	next        uint32 // Message ID of the next new request
	request     []byte // the outstanding one; nil: none
	exchange    iana.Exchange
	task        task
	busy        bool // its response is in work
	retransmits int
	interval    time.Duration // before the next retransmission
}

// maxHeld messages wait for an exchange in work. With a window of one a peer has at most one request and one response under way; the rest is room for
// garbage that a stranger sends in the peer's name before keys can tell.
const maxHeld = 4

// busy reports whether an exchange is in work such that a message for the other direction has to wait: before the IKE SA is established everything does.
func (m *Machine) busy() bool {
	return m.in.busy || m.out.busy || m.state == halfOpen && m.hs.keJob != 0
}

// hold keeps a message until the exchange in work is done. Repetitions of what waits are dropped.
func (m *Machine) hold(in Datagram) {
	if len(m.held) >= maxHeld {
		m.drop(in.Path, event.DropMailbox)
		return
	}
	sum := digestOf(in.Data)
	for _, d := range m.held {
		if digestOf(d.Data) == sum {
			m.drop(in.Path, event.DropDuplicate)
			return
		}
	}
	m.held = append(m.held, in)
}

// repeated answers a request that was answered before: the same octets get the same reply, on the way they came (RFC 7296 2.1). An IKE_SA_INIT
// request that comes again once IKE_AUTH is in work gets nothing.
func (m *Machine) repeated(h wire.Header, in Datagram) {
	if digestOf(in.Data) != m.in.last {
		m.drop(in.Path, event.DropStaleMessageID)
		return
	}
	m.drop(in.Path, event.DropDuplicate)
	if m.in.reply != nil && !(h.Exchange == iana.IKE_SA_INIT && m.in.busy) {
		m.do(Send{Path: in.Path, Data: m.in.reply, Last: in.Path.Kind.Stream() && m.state == ended})
	}
}

// take marks the request that is expected next as in work.
func (m *Machine) take(msg *message) {
	m.in.busy, m.in.work, m.in.path = true, msg.sum, msg.path
	m.in.reply = nil // the window advances (RFC 7296 2.1)
	m.clock.forget = 0
}

// put sends and keeps the reply to the request in work.
func (m *Machine) put(reply []byte, last bool) {
	if reply == nil {
		return // seal has ended the IKE SA
	}
	m.in.busy, m.in.last, m.in.reply = false, m.in.work, reply
	m.in.next++
	m.onReplied()
	m.do(Send{Path: m.in.path, Data: reply, Last: last && m.in.path.Kind.Stream()})
	if m.in.next == 0 {
		m.finish(event.Close{Reason: event.ReasonProtocol, Detail: "the peer's Message IDs are used up (RFC 7296 2.2)"})
	}
}

// request sends a new request and makes it the outstanding one.
func (m *Machine) request(x iana.Exchange, t task, data []byte) {
	if data == nil {
		return // seal has ended the IKE SA
	}
	m.out.request, m.out.exchange, m.out.task = data, x, t
	m.out.busy, m.out.retransmits = false, 0
	m.onSent()
	m.do(Send{Path: m.path, Data: data})
}

// answered forgets the outstanding request: its Message ID is used up.
func (m *Machine) answered() task {
	t := m.out.task
	m.out.next++
	m.out.request, m.out.busy, m.out.task = nil, false, task{}
	m.out.retransmits = 0
	m.onAnswered()
	return t
}

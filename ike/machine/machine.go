package machine

import (
	"slices"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/wire"
)

// Machine is one IKE SA. Not safe for concurrent use.
//
// What only the negotiation needs is in hs and is freed when the IKE SA is established: 100,000 of these have to fit into a gateway.
type Machine struct {
	cfg       Config
	initiator bool // of this IKE SA: the original initiator in the words of RFC 7296 2.2
	state     state
	pathLost  bool // the stream under an established IKE SA has ended
	natLocal  bool // we are behind a NAT: somebody changed the destination of what the peer sent (RFC 7296 2.23)
	natRemote bool // the peer is behind a NAT, or wants encapsulation and says so by a wrong hash
	forced    bool // we ask for ESP in UDP by a wrong hash
	conn      *policy.Oriented
	path      path.Path
	keepalive path.Path // where NAT keepalives were asked for

	spii, spir        wire.SPI
	localID, remoteID ident.ID
	suite             suite.Suite
	keys              suite.IKEKeys
	sealed            uint64 // messages sealed with our keys, so that no IV repeats

	in       inbound
	out      outbound
	tasks    []task
	held     []Datagram // wait until the exchange in work is done
	children []*child
	nextID   ChildID
	nextJob  JobID
	again    []ChildID    // to be asked for again when the peer may be ready
	closing  *event.Close // why the IKE SA is going down, from the moment that is decided
	refusals refusals

	born          time.Time
	now           moment
	clock         clock
	establishedAt moment

	hs      *handshake
	effects []Effect
}

// state is where an IKE SA is. What may arrive in each is in rules.go.
type state uint8

const (
	idle        state = iota
	initSent          // initiator: IKE_SA_INIT request is out
	keying            // initiator: response accepted, jobs run, IKE_AUTH not yet sent
	authSent          // initiator: IKE_AUTH request is out, or its response is being verified
	halfOpen          // responder: IKE_SA_INIT answered, until IKE_AUTH is
	waiting           // initiator: NeedPath is out, no IKE SA yet
	established       //
	deleting          // the request that ends the IKE SA is out
	ended             // over; only repeats its last reply
	closed            // Close is out
)

var stateNames = [...]string{
	"idle", "IKE_SA_INIT sent", "computing keys", "IKE_AUTH sent", "half-open", "waiting for a path", "established", "deleting",
	"ended", "closed",
}

func (s state) String() string { return stateNames[s] }

// NewInitiator makes the initiator of conn. Step(Start) begins. Children are indices into conn.Children; the first is negotiated in IKE_AUTH.
func NewInitiator(cfg Config, conn *policy.Oriented, children []int) *Machine {
	m := &Machine{cfg: cfg, initiator: true, conn: conn, spii: cfg.SPI}
	m.hs = &handshake{wanted: slices.Clone(children)}
	return m
}

// NewResponder makes a responder for an IKE_SA_INIT request on p. candidates are the connections that these two addresses allow, best first.
func NewResponder(cfg Config, candidates []*policy.Oriented, p path.Path) *Machine {
	if cfg.HalfOpen <= 0 {
		cfg.HalfOpen = defaultHalfOpen
	}
	m := &Machine{cfg: cfg, path: p, spir: cfg.SPI}
	m.hs = &handshake{candidates: slices.Clone(candidates)}
	return m
}

// Step takes one input and returns what to do now. The slice is the caller's. No input makes it panic by design; its owner recovers all
// the same and closes this one SA.
func (m *Machine) Step(now time.Time, in Input) []Effect {
	if m.born.IsZero() {
		m.born = now.Add(-1) // so that no moment is zero
	}
	m.now = max(m.now, moment(now.Sub(m.born)))
	m.dispatch(in)
	m.serve()
	out := m.effects
	m.effects = nil
	return out
}

func (m *Machine) dispatch(in Input) {
	if m.state == closed {
		if d, ok := in.(Datagram); ok {
			m.drop(d.Path, event.DropClosed)
		}
		return
	}
	switch in := in.(type) {
	case Start:
		m.onStart(in)
	case Datagram:
		m.onDatagram(in)
		if !m.initiator && m.state == idle && !m.in.busy {
			m.state = closed // that was no IKE_SA_INIT request; it is counted
			m.do(Close{event.Close{Reason: event.ReasonSyntax, Remote: true}})
		}
	case Tick:
		m.onTick()
	case JobDone:
		m.onJobDone(in)
	case SPIReserved:
		m.onSPIReserved(in)
	case InstallDone:
		m.onInstallDone(in)
	case PathReady:
		m.onPathReady(in)
	case NoPath:
		m.onNoPath(in)
	case PathLost:
		m.onPathLost(in)
	case CloseIKE:
		m.onCloseIKE(in)
	case OpenChild:
		m.onOpenChild(in)
	case CloseChild:
		m.onCloseChild(in)
	case RekeyChild:
		m.onRekeyChild(in)
	case CloseConn:
		m.onCloseConn(in)
	case ESPSeen:
		m.onAlive(moment(in.At.Sub(m.born)))
	}
}

// serve does what has become possible: messages that waited for an exchange in work, then tasks that waited for the window.
func (m *Machine) serve() {
	for len(m.held) > 0 && !m.busy() && m.state != closed {
		d := m.held[0]
		m.held = m.held[1:]
		m.onDatagram(d)
	}
	if len(m.held) == 0 {
		m.held = nil
	}
	m.nextTask()
}

func (m *Machine) do(e Effect) { m.effects = append(m.effects, e) }

// spi is our own SPI.
func (m *Machine) spi() wire.SPI {
	if m.initiator {
		return m.spii
	}
	return m.spir
}

func (m *Machine) job(j Job) JobID {
	m.nextJob++
	j.ID = m.nextJob
	m.do(j)
	return j.ID
}

func (m *Machine) onJobDone(in JobDone) {
	if in.ID == 0 {
		return
	}
	for _, c := range m.children {
		if c.offer != nil && c.offer.job == in.ID {
			m.onChildJob(c, in)
			return
		}
	}
	if m.hs == nil {
		return // of an attempt that is over
	}
	switch in.ID {
	case m.hs.keJob:
		m.hs.keJob = 0
		if m.hs.asked != nil {
			m.onKeyAnswer(in)
		} else {
			m.onSecret(in)
		}
	case m.hs.signJob:
		m.hs.signJob = 0
		m.onSigned(in)
	case m.hs.verifyJob:
		m.hs.verifyJob = 0
		m.onVerified(in)
	}
}

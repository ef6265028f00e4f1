package machine

import (
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
)

// handshake is what IKE_SA_INIT and IKE_AUTH need and an established IKE SA does not.
type handshake struct {
	wanted     []int              // initiator: children of conn
	packet     ts.Packet          // initiator: what the first of them is needed for
	candidates []*policy.Oriented // responder: connections that the addresses allow

	exchange   *suite.Exchange // initiator's half of the key exchange
	pending    *suite.Pending  // responder's half, until its secret is computed
	ni, nr     []byte
	asked      *message // responder: the IKE_SA_INIT request while an AnswerJob runs
	msg1, msg2 []byte   // RealMessage1 and RealMessage2 of RFC 7296 2.15
	chosen     wire.SA
	natd       bool // the peer sent NAT_DETECTION notifications

	cookie  []byte
	retries int // IKE_SA_INIT requests repeated for COOKIE or INVALID_KE_PAYLOAD
	streams int // retries when the last stream was asked for to repeat one

	keJob, signJob, verifyJob JobID

	auth    []byte   // our AUTH data
	signed  *AuthJob // initiator: what made it
	child   *child   // the first one
	refusal *childRefusal
	peer    peerAuth

	hint iana.Notify  // an error that came without protection
	junk string       // what was wrong with an answer to IKE_SA_INIT that made no sense
	last *event.Close // why the last attempt ended
}

// peerAuth is what the IKE_AUTH message in work says.
type peerAuth struct {
	auth  wire.Auth
	items []wire.Item
}

// forget leaves what the next attempt needs.
func (hs *handshake) forget() {
	*hs = handshake{wanted: hs.wanted, packet: hs.packet, candidates: hs.candidates}
}

// child finds a Child SA.
func (m *Machine) child(id ChildID) *child {
	for _, c := range m.children {
		if c.id == id {
			return c
		}
	}
	return nil
}

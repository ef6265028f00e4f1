package machine

import (
	"encoding/binary"
	"slices"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
)

// child is one Child SA pair, with the connection it belongs to: an IKE SA may serve several.
type child struct {
	id            ChildID
	conn          *policy.Oriented
	index         int // in conn.Children
	state         childState
	asker         bool   // we sent the request that it was made by
	unwanted      bool   // to be deleted as soon as it can be
	ending        bool   // its deletion ends a rekeying of ours
	standby       bool   // outbound, it waits behind the one that it replaces
	stranded      bool   // it carries nothing any more, and is of no use without a successor
	redundant     bool   // of two successors the one that the peer will delete
	moved         bool   // the path changed while the datapath installed it
	spiIn, spiOut uint32 // as they stand in packets to us and from us
	suite         suite.Suite
	local, remote ts.Set
	path          path.Path // where its ESP travels
	mode          mode
	aside         string // for the operator, when it is told: how it differs from what the peer asked for
	installedAt   moment
	offer         *offer  // while it is negotiated
	replaces      ChildID // made by the peer in the place of this one
	rekeyed       rekeying
	request       uint32 // whose outcome its end, or that of the one it replaces, is (RekeyChild)
}

type childState uint8

const (
	childReserving  childState = iota // an SPI was asked for
	childReserved                     // it is there
	childInstalling                   // keys are with the datapath
	childInstalled
	childDeleting // our Delete is under way
)

// childRefusal is why a Child SA was not made. The IKE SA stays (RFC 7296 1.2, 2.21.2).
type childRefusal struct {
	conn   *policy.Oriented // that it was for; nil: none in particular
	reason event.Reason
	notify iana.Notify
	data   []byte // of the notification, as are those that follow
	// the SA that the notification is about
	protocol iana.Protocol
	spi      []byte
	text     string
}

func (c *child) name() string { return c.conn.Children[c.index].Name }

// newChild makes a Child SA and asks for its inbound SPI. Its offer is the caller's.
func (m *Machine) newChild(conn *policy.Oriented, index int) *child {
	m.nextID++
	c := &child{id: m.nextID, conn: conn, index: index}
	m.children = append(m.children, c)
	m.do(ReserveSPI{Child: c.id})
	return c
}

// onSPIReserved gives a child its inbound SPI. One that nobody waits for any more is given back.
func (m *Machine) onSPIReserved(in SPIReserved) {
	c := m.child(in.Child)
	if c == nil || c.state != childReserving {
		if in.Err == nil {
			m.do(Remove{Child: in.Child, SPIIn: in.SPI})
		}
		return
	}
	if in.Err == nil {
		c.spiIn, c.state = in.SPI, childReserved
	}
	c.refusedWith(in.Notify)
	m.onChildSPI(c, in.Err)
}

// refusedWith keeps what the peer is to be told if the datapath has refused something.
func (c *child) refusedWith(n iana.Notify) {
	if c.offer != nil {
		c.offer.refused = n
	}
}

// install derives the keys of a child (RFC 7296 2.17) and gives them to the datapath. What the RFC calls initiator is whoever sent the request of this exchange.
func (m *Machine) install(c *child) {
	k := c.suite.DeriveChild(m.suite.PRF, m.keys.D, c.offer.secret, c.offer.ni, c.offer.nr)
	clear(c.offer.secret)
	c.offer.secret = nil
	in, out := Keys{Encr: k.EncrR, Integ: k.IntegR}, Keys{Encr: k.EncrI, Integ: k.IntegI}
	if !c.asker {
		in, out = out, in
	}
	c.state, c.path = childInstalling, m.espPath(c.conn)
	m.do(Install{
		Child: c.id, Conn: c.conn, Index: c.index, SPIIn: c.spiIn, SPIOut: c.spiOut, Suite: c.suite, In: in, Out: out,
		Local: c.local, Remote: c.remote, Path: c.path,
		Transport: c.mode.transport, OriginalLocal: c.mode.originalLocal, OriginalRemote: c.mode.originalRemote, Standby: c.standby,
	})
}

// onInstallDone goes on with an installed child, or without one.
func (m *Machine) onInstallDone(in InstallDone) {
	c := m.child(in.Child)
	if c == nil || c.state != childInstalling {
		return
	}
	if in.Err == nil {
		c.state, c.installedAt = childInstalled, m.now
		if c.moved {
			m.moveChild(c)
		}
	}
	c.refusedWith(in.Notify)
	m.onChildInstalled(c, in.Err)
}

// removeChild takes a child away at once.
func (m *Machine) removeChild(c *child) {
	m.children = slices.DeleteFunc(m.children, func(o *child) bool { return o == c })
	if c.spiIn != 0 {
		m.do(Remove{Child: c.id, SPIIn: c.spiIn})
	}
}

// removeChildren takes all children away. Their end is part of the IKE SA's and is not told one by one.
func (m *Machine) removeChildren() {
	for len(m.children) > 0 {
		m.removeChild(m.children[0])
	}
	m.children = nil
}

// deleteChild asks the peer to delete a child; it goes when the answer is there (RFC 7296 1.4.1).
func (m *Machine) deleteChild(c *child) {
	if c.state == childDeleting {
		return
	}
	c.state, c.offer = childDeleting, nil
	m.enqueue(task{kind: taskDeleteChild, child: c.id})
}

// onCloseChild deletes one child on the owner's wish. One that is still being made goes when it is.
func (m *Machine) onCloseChild(in CloseChild) {
	if c := m.child(in.Child); c != nil {
		m.closeChild(c)
	}
}

// onCloseConn deletes all children of a connection.
func (m *Machine) onCloseConn(in CloseConn) {
	if in.Heir != nil && m.conn != nil && m.conn.Connection == in.Conn && m.state == established {
		m.conn = in.Heir
	}
	for _, c := range slices.Clone(m.children) {
		if c.conn.Connection == in.Conn {
			m.closeChild(c)
		}
	}
}

func (m *Machine) closeChild(c *child) {
	switch {
	case c.state == childInstalled && m.state == established:
		m.deleteChild(c)
	default:
		c.unwanted = true
	}
}

// spiOf reads an ESP SPI; zero is none (RFC 4303 2.1).
func spiOf(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// childBySPIOut finds a child by the SPI that the peer chose: the one in its Delete payloads.
func (m *Machine) childBySPIOut(spi uint32) *child {
	i := slices.IndexFunc(m.children, func(c *child) bool { return c.spiOut == spi })
	if spi == 0 || i < 0 {
		return nil
	}
	return m.children[i]
}

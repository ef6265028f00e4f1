package main

import (
	"fmt"
	"strings"

	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
)

// What the engine says, in the words of the control protocol.

func ctlPath(p path.Path) ctl.Path {
	if p.IsZero() {
		return ctl.Path{}
	}
	return ctl.Path{Carrier: p.Kind.String(), Local: p.Local.String(), Remote: p.Remote.String()}
}

func ctlPathOrNil(p path.Path) *ctl.Path {
	if p.IsZero() {
		return nil
	}
	c := ctlPath(p)
	return &c
}

func ctlEvent(e event.Event) ctl.Event {
	c := ctl.Event{At: e.At, Level: e.Level.String(), Kind: e.Kind.String(), Connection: e.Conn, Child: e.Child, Path: ctlPathOrNil(e.Path), Text: e.Text}
	if e.SA != 0 {
		c.SA = spiText(e.SA)
	}
	return c
}

func spiText(s wire.SPI) string { return fmt.Sprintf("%016x", uint64(s)) }

func espSPI(s uint32) string { return fmt.Sprintf("0x%08x", s) }

func idText(id ident.ID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

// ctlSA joins an IKE SA with the counters of its children, by inbound SPI; why says why a child of a connection is with a datapath.
func ctlSA(s machine.Snapshot, usage []kernel.Usage, why func(conn, datapath string) string) ctl.IKESA {
	sa := ctl.IKESA{
		Connection: s.Conn, Instance: s.Instance, State: s.State, Initiator: s.Initiator, SPIi: spiText(s.SPIi), SPIr: spiText(s.SPIr), LocalID: idText(s.Local),
		RemoteID: idText(s.Remote), Path: ctlPath(s.Path), NATLocal: s.NATLocal, NATRemote: s.NATRemote, Forced: s.Forced, Established: s.Established,
		Retransmits: s.Retransmits, Children: []ctl.ChildSA{},
	}
	if s.PathLost {
		sa.State += ", path lost"
	}
	if s.Suite.Encr.ID != 0 {
		sa.Algorithms = s.Suite.String()
	}
	bySPI := make(map[kernel.SPI]kernel.Usage, len(usage))
	for _, u := range usage {
		bySPI[u.SPI] = u
	}
	for _, c := range s.Children {
		u, carrier := bySPI[kernel.SPI(c.SPIIn)], ""
		if !c.Path.IsZero() {
			carrier = c.Path.Kind.Encapsulation()
		}
		mode := "tunnel"
		if c.Transport {
			mode = "transport"
		}
		sa.Children = append(sa.Children, ctl.ChildSA{
			Name: c.Name, Connection: c.Conn, Instance: c.Instance, SPIIn: espSPI(c.SPIIn), SPIOut: espSPI(c.SPIOut), Local: c.Local.String(), Remote: c.Remote.String(),
			Mode: mode, Algorithms: c.Suite.String(), Carrier: carrier, Datapath: u.Datapath, Why: why(c.Conn, u.Datapath), Installed: c.Installed, InPackets: u.InPackets, InBytes: u.InBytes,
			OutPackets: u.OutPackets, OutBytes: u.OutBytes, LastIn: u.LastIn, LastOut: u.LastOut,
		})
	}
	return sa
}

func ctlConnection(s engine.ConnectionStatus) ctl.Connection {
	c := ctl.Connection{
		Name: s.Name, State: s.State, Position: s.Conn.Position, Auto: s.Conn.Auto.String(), Wanted: s.Wanted, TCP: s.Conn.TCP.Mode.String(), Why: s.Why,
		Path: ctlPathOrNil(s.Path), LastError: s.LastError, NextTry: s.NextTry, Algorithms: s.Conn.IKE.String(),
	}
	for _, child := range s.Conn.Children {
		c.ESP = child.ESP.String()
	}
	if s.Conn.IsShunt() {
		c.Shunt, c.TCP, c.Algorithms, c.ESP = s.Conn.Shunt.String(), "", "", ""
	}
	left, right := ctlEnd(&s.Conn.Left), ctlEnd(&s.Conn.Right)
	if s.Oriented != nil {
		local, remote := &left, &right
		if !s.Oriented.LeftIsLocal {
			local, remote = &right, &left
		}
		c.Local, c.Remote = *local, *remote
		c.Local.Host = s.Oriented.LocalAddr.String()
		if s.Oriented.RemoteAddr.IsValid() {
			c.Remote.Host = s.Oriented.RemoteAddr.String()
		}
		for i, child := range s.Conn.Children {
			c.Children = append(c.Children, ctl.Child{
				Name: child.Name, Local: s.Oriented.LocalTS(i).String(), Remote: s.Oriented.RemoteTS(i).String(), Up: i < len(s.ChildUp) && s.ChildUp[i],
			})
			if c.Children[i].Up {
				c.ChildrenUp++
			}
		}
		return c
	}
	c.Local, c.Remote = left, right
	return c
}

func ctlEnd(e *policy.End) ctl.End {
	end := ctl.End{Host: e.Host.String(), Subnets: e.Subnets.String(), ProtoPort: e.ProtoPort()}
	if e.ID.Any || !e.ID.ID.IsZero() {
		end.ID = e.ID.String()
	}
	return end
}

func ctlAttempt(a engine.Attempt) ctl.Attempt {
	return ctl.Attempt{Path: ctlPath(a.Path), Reason: a.Close.Reason.String(), Detail: a.Close.Detail, Took: a.Took}
}

// upMessage is the head of what `up` says when every rung has failed.
func upMessage(e *engine.UpError) string {
	var peers []string
	for _, a := range e.Attempts {
		if !a.Path.IsZero() { // an attempt that found no way to begin has none
			peers = append(peers, a.Path.Peer())
		}
	}
	if len(peers) == 0 {
		return e.Error()
	}
	return fmt.Sprintf("%q is not up: tried %s", e.Conn, strings.Join(peers, ", then "))
}

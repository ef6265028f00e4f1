package engine

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/ikegod/ikegod/ike/auth"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
)

// Explanation says how a connection would be negotiated: with what, and which connection a peer would get that asks for it.
type Explanation struct {
	Conn     *policy.Connection
	Oriented *policy.Oriented // with the peer's address, if that is known; nil: not oriented, Why says why
	Why      string
	Settings []policy.Setting
	// PeerAddr and PeerID are who is asked about: as given, or as the connection says. Invalid and zero when neither does: a template is for many.
	PeerAddr netip.Addr
	PeerID   ident.ID
	Secret   auth.Choice
	// Shunt is what a connection without IKE does, and with which traffic: no peer gets it. Empty: it has IKE.
	Shunt string
	// Candidates are all connections in the order in which the peer would try them: those for its address first, then those that are not for it.
	Candidates []Candidate
	// Chosen is the name of the first that fits and allows what the connection in question protects, or else of the first that fits; empty: none, or the peer is not known.
	Chosen string
	// Fails is why the peer would be refused all the same, after it was chosen for; empty: nothing is known that speaks against it.
	Fails string
}

// Candidate is a connection, and why a peer would not get it.
type Candidate struct {
	Name, Position string
	Fits           string // for the peer's address: "address" or "template"; empty: not for it
	Why            string // why not this one; empty: nothing speaks against it
}

// Explain looks at the set in force and at the secrets; it changes nothing and asks nobody. peer and id, if given, are somebody who asks for the connection; otherwise it is
// who the connection expects, or of NAME[N] that peer.
func (e *Engine) Explain(name string, peer netip.Addr, id ident.ID) (Explanation, error) {
	v := e.view.Load()
	c := v.byName[name]
	if of, number := v.ofInstance(name); of != nil {
		addr, who, err := e.peerOf(of, number)
		if err != nil {
			return Explanation{}, err
		}
		if c = of; !peer.IsValid() {
			peer, id = addr, who
		}
	}
	if c == nil {
		return Explanation{}, e.unknown(name)
	}
	return v.explain(e.secrets.Load(), c, peer.Unmap(), id), nil
}

func (v *view) explain(secrets *auth.Store, c *control, peer netip.Addr, id ident.ID) Explanation {
	written := c.written.Load()
	x := Explanation{Conn: written, Settings: written.Settings(), PeerAddr: peer, PeerID: id}
	if c.oriented == nil {
		x.Why = c.peek().Why
		return x
	}
	o := c.oriented
	if c.conn.IsShunt() {
		x.Oriented, x.Shunt = o, c.does()
		return x
	}
	if !peer.IsValid() {
		x.PeerAddr = o.RemoteAddr
	} else if !o.RemoteAddr.IsValid() {
		o = o.Instance(peer)
	}
	x.Oriented = o
	if id.IsZero() {
		x.PeerID, _ = o.RemoteID().One()
	}
	x.Secret = secrets.Choose(o.LocalID(), x.PeerID)
	if x.PeerAddr.IsValid() {
		if chosen := v.compete(&x); chosen != nil {
			x.Fails = unproven(secrets, chosen, x.PeerID)
		}
	}
	return x
}

// unproven says why a peer that gets a connection cannot be authenticated there; empty: it can, if its secret is the same.
func unproven(secrets *auth.Store, o *policy.Oriented, peer ident.ID) string {
	switch {
	case secrets.Choose(o.LocalID(), peer).Position != "":
		return ""
	case peer.IsZero():
		return fmt.Sprintf("authentication will fail unless a PSK record of ipsec.secrets is for %v and the peer's identity, which is not given", o.LocalID())
	}
	return fmt.Sprintf("authentication will fail: no PSK record of ipsec.secrets is for %v and %v", o.LocalID(), peer)
}

// compete finds who gets the peer, as the responder does: by the two addresses, then by the identities and what the IKE SA was negotiated with. Of several that
// share an IKE SA the selectors and esp= of its Child SA decide, and the peer is taken to ask for those of the connection in question.
func (v *view) compete(x *Explanation) *policy.Oriented {
	port := cmp.Or(x.Oriented.Local.OwnPort(), iana.PortIKE) // where the peer of this connection comes to
	p := path.Path{Local: netip.AddrPortFrom(x.Oriented.LocalAddr, port), Remote: netip.AddrPortFrom(x.PeerAddr, iana.PortIKE)}
	seen := map[string]bool{}
	chosen, other := -1, map[int]string{} // among x.Candidates; why those are not for this Child SA that are for this peer
	var list []*policy.Oriented           // none where the peer cannot send to this address, which is of the other IP version
	if x.Oriented.LocalAddr.Is4() == x.PeerAddr.Is4() {
		list = v.candidates(p)
	}
	for _, o := range list {
		seen[o.Name] = true
		c := Candidate{Name: o.Name, Position: o.Position, Fits: "address", Why: v.against(x, o)}
		if !o.RemoteAddr.IsValid() {
			c.Fits, o = "template", o.Instance(x.PeerAddr)
		}
		n := len(x.Candidates)
		if c.Why == "" {
			other[n] = noChildFor(o, x.Oriented)
		}
		if c.Why == "" && (chosen < 0 || other[chosen] != "" && other[n] == "") {
			chosen = n
		}
		x.Candidates = append(x.Candidates, c)
	}
	var gets *policy.Oriented
	for n := range x.Candidates {
		switch c := &x.Candidates[n]; {
		case n == chosen:
			x.Chosen, gets = c.Name, list[n]
		case c.Why != "":
		case other[n] != "" && other[chosen] == "":
			c.Why = other[n] + ": a Child SA for that would be its own, on the same IKE SA"
		default:
			c.Why = fmt.Sprintf("%q comes first", x.Candidates[chosen].Name)
		}
	}
	for _, c := range v.list {
		if !seen[c.conn.Name] {
			x.Candidates = append(x.Candidates, Candidate{Name: c.conn.Name, Position: c.conn.Position, Why: c.wants(v, p)})
		}
	}
	return gets
}

// noChildFor says why a connection does not take a Child SA of another; empty: it takes one of them.
func noChildFor(o, asked *policy.Oriented) string {
	why := fmt.Sprintf("it protects other traffic than %q", asked.Name)
	for i := range o.Children {
		for j := range asked.Children {
			local, remote := ts.Narrow(asked.LocalTS(j), o.LocalTS(i), o.Narrowing), ts.Narrow(asked.RemoteTS(j), o.RemoteTS(i), o.Narrowing)
			if len(local) == 0 || len(remote) == 0 || o.Children[i].Transport != asked.Children[j].Transport {
				continue
			}
			offer := asked.Children[j].ESP.Offer(iana.ProtoESP, []byte{0, 0, 0, 1}, false) // as in IKE_AUTH; any SPI will do
			_, err := o.Children[i].ESP.Choose(offer, iana.ProtoESP, false, iana.KE_NONE)
			if err == nil {
				return ""
			}
			why = fmt.Sprintf("it allows none of the ESP proposals of %q (%s): %v", asked.Name, machine.WhereESP(o, err), err)
		}
	}
	return why
}

// against says why a connection for the peer's address is none for its identity, or for what the connection in question would be negotiated with. A template without
// an identity takes any, as the responder does, and not only the peer's address.
func (v *view) against(x *Explanation, o *policy.Oriented) string {
	if x.PeerID.IsZero() {
		if id, one := o.RemoteID().One(); one {
			return fmt.Sprintf("its peer must be %v (%s), and which identity asks is not said", id, o.WhereEnd(false, "id"))
		}
	} else if why := o.RefusesPeer(x.PeerID, ident.ID{}, x.Oriented.Remote.Auth); why != "" {
		return why
	}
	if _, err := o.IKE.Choose(x.Oriented.IKE.Offer(iana.ProtoIKE, nil, true), iana.ProtoIKE, true, iana.KE_NONE); err != nil {
		return fmt.Sprintf("%s: %v", o.Where("ike"), err)
	}
	return ""
}

package main

import (
	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/pkg/ctl"
)

// ctlExplanation puts an explanation into the words of the control protocol.
func ctlExplanation(x engine.Explanation) ctl.Explanation {
	if x.Conn == nil {
		return ctl.Explanation{}
	}
	out := ctl.Explanation{
		Connection: x.Conn.Name, Position: x.Conn.Position, Why: x.Why, Shunt: x.Shunt, Chosen: x.Chosen, Fails: x.Fails, Candidates: []ctl.Candidate{},
		Local: ctlEnd(&x.Conn.Left), Remote: ctlEnd(&x.Conn.Right),
		Secret: ctl.SecretUsed{Position: x.Secret.Position, Why: x.Secret.Why, Others: x.Secret.Others, Lacking: x.Secret.Lacking},
	}
	for _, s := range x.Settings {
		out.Settings = append(out.Settings, ctl.Setting{Keyword: s.Keyword, Value: s.Value, Position: s.Position})
	}
	for _, c := range x.Candidates {
		out.Candidates = append(out.Candidates, ctl.Candidate{Connection: c.Name, Position: c.Position, Fits: c.Fits, Why: c.Why})
	}
	if o := x.Oriented; o != nil {
		out.Local, out.Remote = ctlEnd(o.Local), ctlEnd(o.Remote)
		out.Local.Host, out.Local.ID = o.LocalAddr.String(), o.LocalID().String()
		out.Remote.ID = o.RemoteID().String()
	}
	if x.PeerAddr.IsValid() {
		out.Remote.Host = x.PeerAddr.String()
	}
	if !x.PeerID.IsZero() {
		out.Remote.ID = x.PeerID.String()
	}
	return out
}

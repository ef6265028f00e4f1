package policy

import (
	"fmt"
	"strings"
	"time"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/ts"
)

// Setting is one keyword of a connection as it counts, and where it comes from.
type Setting struct {
	Keyword, Value string
	Position       string // file:line; empty: the default
}

// Settings lists what decides about a connection's negotiation, defaults included, in the order of ipsec.conf(5).
func (c *Connection) Settings() []Setting {
	var out []Setting
	for _, left := range []bool{true, false} {
		out = append(out, c.endSettings(left)...)
	}
	own := func(keyword, value string) {
		out = append(out, Setting{keyword, value, c.Positions[keyword]})
	}
	own("auto", c.Auto.String())
	if c.IsShunt() { // what is about IKE and SAs has no effect
		own("type", c.Shunt.String())
		own("backend", c.Backend.String())
		return out
	}
	own("ike", c.IKE.String())
	for i := range c.Children {
		if i == 0 || c.Children[i].ESP.String() != c.Children[0].ESP.String() {
			own("esp", c.Children[i].ESP.String())
		}
	}
	if len(c.Children) > 0 {
		own("pfs", yesNo(c.Children[0].PFS))
		own("type", map[bool]string{true: "transport", false: "tunnel"}[c.Children[0].Transport])
	}
	own("narrowing", yesNo(c.Narrowing))
	own("encapsulation", c.Encapsulation.String())
	own("enable-tcp", c.TCP.Mode.String())
	own("tcp-remoteport", c.tcpPort())
	own("retransmit-timeout", c.Retransmit.Timeout.String())
	own("dpddelay", orOff(c.Liveness))
	own("ikelifetime", orOff(c.Lifetimes.IKE))
	own("ipsec-lifetime", orOff(c.Lifetimes.Child))
	own("backend", c.Backend.String())
	own("negotiationshunt", c.Negotiation.String())
	own("failureshunt", c.Failure.String())
	return out
}

func (c *Connection) endSettings(left bool) []Setting {
	e, word := &c.Right, side(left)
	if left {
		e = &c.Left
	}
	at := func(keywords ...string) string {
		for _, k := range keywords {
			if p := e.Positions[word+k]; p != "" {
				return p
			}
			if p := c.Positions[k]; p != "" && k != "" {
				return p
			}
		}
		return ""
	}
	id, subnets := e.ID.String(), e.Subnets.String()
	if !e.ID.Any && e.ID.ID.IsZero() {
		id = "the address"
		if e.Host.Kind == HostAny { // a template takes any
			id = "%any"
		}
	}
	if subnets == "" {
		subnets = "the host itself"
	}
	protoport := e.ProtoPort()
	if protoport == "" {
		protoport = "%any"
	}
	if c.IsShunt() {
		return []Setting{{word, e.Host.String(), at("")}, {word + "subnet", subnets, at("subnet", "subnets")}, {word + "protoport", protoport, at("protoport")}}
	}
	return []Setting{
		{word, e.Host.String(), at("")},
		{word + "ikeport", e.ikePort(), at("ikeport")},
		{word + "id", id, at("id")},
		{word + "subnet", subnets, at("subnet", "subnets")},
		{word + "protoport", protoport, at("protoport")},
		{"authby", authBy(e.Auth), at("auth", "authby")},
	}
}

// tcpPort is the port that the initiator connects to, as far as it is known which end that is.
func (c *Connection) tcpPort() string {
	switch {
	case c.TCP.RemotePort != 0:
		return fmt.Sprint(c.TCP.RemotePort)
	case c.Left.IKEPort != 0 || c.Right.IKEPort != 0:
		return "the ikeport= of the peer, or 4500"
	}
	return "4500"
}

func (e *End) ikePort() string {
	if e.IKEPort == 0 {
		return "500 and 4500"
	}
	return fmt.Sprint(e.IKEPort)
}

// ProtoPort is leftprotoport= or rightprotoport=, such as "TCP/443"; empty: any.
func (e *End) ProtoPort() string {
	if e.Protocol == 0 {
		return ""
	}
	return ts.Selector{Protocol: e.Protocol, StartPort: e.StartPort, EndPort: e.EndPort}.ProtoPort()
}

func authBy(a iana.AuthMethod) string {
	if a == iana.AuthSharedKey {
		return "secret"
	}
	return strings.ToLower(a.String())
}

func yesNo(b bool) string { return map[bool]string{true: "yes", false: "no"}[b] }

func orOff(d time.Duration) string {
	if d == 0 {
		return "off"
	}
	return d.String()
}

// RefusesPeer says why a peer that names itself idi, asks for idr (zero: for nobody in particular) and authenticates with a method cannot have this connection; empty
// when it can.
func (o *Oriented) RefusesPeer(idi, idr ident.ID, method iana.AuthMethod) string {
	switch {
	case !o.RemoteID().Match(idi):
		return fmt.Sprintf("its peer must be %v (%s)", o.RemoteID(), o.WhereEnd(false, "id"))
	case !idr.IsZero() && !(ident.Pattern{ID: o.LocalID()}).Match(idr):
		return fmt.Sprintf("we are %v there (%s)", o.LocalID(), o.WhereEnd(true, "id"))
	case method != o.Remote.Auth:
		return fmt.Sprintf("its peer must authenticate with %v, it uses %v (%s)", o.Remote.Auth, method, o.WhereEnd(false, "auth", "authby"))
	}
	return ""
}

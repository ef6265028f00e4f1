package machine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
)

// The words for two configurations that do not agree: the first difference, and the line that decides about it.

// WhereESP names the line behind a refused esp= proposal: pfs= decides about the key exchange, esn= about sequence numbers.
func WhereESP(c *policy.Oriented, err error) string {
	if m, ok := errors.AsType[*suite.Mismatch](err); ok {
		switch {
		case m.Type == iana.TransformSN && c.Positions["esn"] != "":
			return where(c, "esn")
		case m.Type == iana.TransformKE && c.Positions["pfs"] != "":
			return where(c, "pfs") + ", " + where(c, "esp")
		}
	}
	return where(c, "esp")
}

// whereSelector names the line that decides about what differs at one end.
func whereSelector(c *policy.Oriented, local bool, d ts.Difference) string {
	if d.What == ts.Protocol || d.What == ts.Ports {
		return whereEnd(c, local, "protoport", "subnet", "subnets")
	}
	return whereEnd(c, local, "subnet", "subnets")
}

// whereSubnet names the lines that make the selectors of one end.
func whereSubnet(c *policy.Oriented, local bool) string {
	lines := whereEnd(c, local, "subnet", "subnets")
	if p := whereEnd(c, local, "protoport"); !strings.HasPrefix(p, "no ") {
		lines += ", " + p
	}
	return lines
}

// sayLess notes in what an answer is less than what the peer has asked for, which may take it, or delete the Child SA without a word.
func (m *Machine) sayLess(ch *chosen, transport bool, ours, theirs ts.Set) *chosen {
	if transport && !ch.mode.transport {
		ch.aside = fmt.Sprintf("; the peer asked for transport mode, and here it is tunnel mode (%s): if it deletes this Child SA, write the same type= at both ends", where(ch.conn, "type"))
	}
	if !ch.local.Contains(ours) || !ch.remote.Contains(theirs) {
		local, remote := m.selectors(ch.conn, ch.index)
		fault, _ := selectorFault(ch.conn, local, remote, ours, theirs)
		ch.aside += fmt.Sprintf("; the peer asked for %s, and %s made that less: %s", tunnel(ours, theirs), where(ch.conn, "narrowing"), fault)
	}
	return ch
}

// selectorFault says in what the selectors that are asked for go beyond those of a connection, with the line that sets them. overlap says that a part of them is
// allowed, which narrowing=yes would find.
func selectorFault(c *policy.Oriented, local, remote, askedLocal, askedRemote ts.Set) (text string, overlap bool) {
	l, atLocal := local.FirstDifference(askedLocal)
	r, atRemote := remote.FirstDifference(askedRemote)
	switch {
	case atLocal && atRemote && local.Contains(askedRemote) && remote.Contains(askedLocal):
		return fmt.Sprintf("the two sides are exchanged: the peer takes %v (%s) for its own", askedRemote, whereSelector(c, true, l)), false
	case atLocal:
		return fmt.Sprintf("on our side %v (%s)", l, whereSelector(c, true, l)), l.Overlap && (!atRemote || r.Overlap)
	case atRemote:
		return fmt.Sprintf("on the peer's side %v (%s)", r, whereSelector(c, false, r)), r.Overlap
	}
	return "they agree", true
}

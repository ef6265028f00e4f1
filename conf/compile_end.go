package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/esp"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/suggest"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
)

// authMethods are the words of authby= and auth=. The value says whether it is the pre-shared key.
var authMethods = map[string]bool{
	"secret": true, "psk": true, "rsasig": false, "rsa": false, "rsa-sha1": false, "rsa-sha2": false,
	"rsa-sha2_256": false, "rsa-sha2_384": false, "rsa-sha2_512": false, "ecdsa": false, "ecdsa-sha2": false, "ecdsa-sha2_256": false,
	"ecdsa-sha2_384": false, "ecdsa-sha2_512": false, "ecdsa-sha1": false, "eddsa": false, "null": false, "never": false,
}

// authentication reads leftauth= and rightauth=, or authby= for both. Nothing but pre-shared keys may be asked for.
func (b *build) authentication(c *policy.Connection) {
	c.Left.Auth, c.Right.Auth = iana.AuthSharedKey, iana.AuthSharedKey
	l, r := b.get("auth", left), b.get("auth", right)
	switch {
	case l != nil && r == nil:
		b.refuseEntry(l, "leftauth= without rightauth=", "write both, or authby=")
	case l == nil && r != nil:
		b.refuseEntry(r, "rightauth= without leftauth=", "write both, or authby=")
	case l != nil && r != nil:
		for _, e := range []*entry{l, r} {
			if v := value[string](b, "auth", e.side); v != "" && !authMethods[v] {
				b.refuseEntry(e, e.word+"="+v+" is not supported yet: only pre-shared keys are", "write secret, here and at the peer")
			}
		}
	default:
		b.authBy()
	}
}

func (b *build) authBy() {
	e := b.get("authby", noSide)
	if e == nil && b.broken {
		return
	}
	if e == nil {
		b.refuse(b.sect.at, "authby= is not written, and its default, signatures, is not supported yet", "write authby=secret, here and at the peer")
		return
	}
	methods := value[[]token](b, "authby", noSide)
	if len(methods) == 0 {
		b.fault(e, bad("no method is given"))
	}
	for _, m := range methods {
		psk, known := authMethods[m.text]
		if !known {
			words := make([]string, 0, len(authMethods))
			for w := range authMethods {
				words = append(words, w)
			}
			slices.Sort(words)
			b.fault(e, &badValue{from: m.from, width: len(m.text), text: quoted(m.text) + " is not a method of authentication", suggestion: suggest.DidYouMean(m.text, words)})
		} else if !psk {
			b.refuseEntry(e, fmt.Sprintf("%s=%s: %s is not supported yet: only pre-shared keys are", e.word, printable(e.value), m.text), "write authby=secret, here and at the peer")
		}
	}
}

// hosts reads left= and right=. One of them must be able to be this host.
func (b *build) hosts(c *policy.Connection) {
	l, r := b.get(hostKeyword, left), b.get(hostKeyword, right)
	for _, m := range []struct {
		e    *entry
		word string
	}{{l, "left"}, {r, "right"}} {
		if m.e == nil && !b.broken {
			b.refuse(b.sect.at, m.word+"= is missing", "")
		}
	}
	if l == nil || r == nil {
		return
	}
	c.Left.Host, c.Right.Host = value[policy.Host](b, hostKeyword, left), value[policy.Host](b, hostKeyword, right)
	b.families(c, l, r)
	lh, rh := c.Left.Host, c.Right.Host
	local := func(h policy.Host) bool {
		return h.Kind != policy.HostAny
	}
	switch {
	case lh == policy.Host{} || rh == policy.Host{}: // could not be read
	case lh.Kind == policy.HostAddress && lh == rh:
		b.refuseEntry(r, fmt.Sprintf("left= and right= are the same address, %s", lh.Addr), "")
	case lh.Kind == policy.HostDefaultRoute && rh.Kind == policy.HostDefaultRoute:
		b.refuseEntry(r, "left= and right= are both %defaultroute, which is this host", "write the peer's address, or %any")
	case !local(lh) && !local(rh):
		b.refuseEntry(r, fmt.Sprintf("neither left=%s nor right=%s can be this host", l.value, r.value), "write an address of this host, or %defaultroute, for one of them")
	case (!local(lh) || !local(rh)) && !c.IsShunt():
		b.startOfTemplate()
	}
}

// startOfTemplate tells of an auto= that would have to know whom to ask.
func (b *build) startOfTemplate() {
	e := b.get("auto", noSide)
	if a := b.auto(); e != nil && (a == policy.AutoOnDemand || a == policy.AutoStart && value[string](b, "auto", noSide) != "keep") {
		b.warn(e, Note, fmt.Sprintf("auto=%s has no effect: a peer that may come from anywhere cannot be asked, so the connection waits for it", printable(e.value)), "write auto=add")
	}
}

// families applies hostaddrfamily= and finds hosts of different families.
func (b *build) families(c *policy.Connection, l, r *entry) {
	want := map[string]policy.Family{"ipv4": policy.FamilyV4, "ipv6": policy.FamilyV6}[value[string](b, "hostaddrfamily", noSide)]
	var found [2]policy.Family
	for i, end := range []struct {
		h *policy.Host
		e *entry
	}{{&c.Left.Host, l}, {&c.Right.Host, r}} {
		if end.h.Kind != policy.HostAddress && end.h.Family == policy.FamilyAny {
			end.h.Family = want
		}
		f := hostFamily(*end.h)
		if want != policy.FamilyAny && f != want && f != policy.FamilyAny {
			b.refuseEntry(end.e, fmt.Sprintf("%s=%s is IPv%d, and hostaddrfamily= says IPv%d", end.e.word, printable(end.e.value), f, want), "")
		}
		found[i] = f
	}
	if found[0] != found[1] && found[0] != policy.FamilyAny && found[1] != policy.FamilyAny {
		b.refuseEntry(r, fmt.Sprintf("left=%s is IPv%d, and right=%s is IPv%d", printable(l.value), found[0], printable(r.value), found[1]), "")
	}
}

func hostFamily(h policy.Host) policy.Family {
	switch {
	case h.Kind != policy.HostAddress:
		return h.Family
	case h.Addr.Is4():
		return policy.FamilyV4
	case h.Addr.Is6():
		return policy.FamilyV6
	}
	return policy.FamilyAny
}

// identities reads leftid= and rightid=. %any is no identity, as in libreswan: for a host with an address its address, for %any anybody.
func (b *build) identities(c *policy.Connection) {
	for _, end := range []struct {
		end  *policy.End
		side side
	}{{&c.Left, left}, {&c.Right, right}} {
		e := b.get("id", end.side)
		if e == nil {
			continue
		}
		id := value[ident.Pattern](b, "id", end.side)
		if id.Any && end.end.Host.Kind != policy.HostAny {
			b.warn(e, Warning, fmt.Sprintf("%s=%s means the address of %s=, as in libreswan", e.word, printable(e.value), end.side), "remove it, or write the identity")
			id = ident.Pattern{}
		}
		end.end.ID = id
	}
}

// selectors reads leftsubnet=, leftsubnets=, leftprotoport= and leftsourceip=, and the right ones.
func (b *build) selectors(c *policy.Connection) {
	for _, end := range []struct {
		end  *policy.End
		side side
	}{{&c.Left, left}, {&c.Right, right}} {
		pp := anyProtoPort
		pe := b.get("protoport", end.side)
		if pe != nil {
			pp = value[protoPort](b, "protoport", end.side)
			b.typeOfICMP(pe, pe.value, ts.Selector{Protocol: pp.protocol, StartPort: pp.start, EndPort: pp.end})
		}
		end.end.Protocol, end.end.StartPort, end.end.EndPort = pp.protocol, pp.start, pp.end
		one := b.get("subnet", end.side)
		if one != nil {
			end.end.Subnets = b.subnets(one, value[[]subnet](b, "subnet", end.side), pp, pe)
		}
		several := b.several(end.side, pp, pe)
		if one != nil || len(several) == 0 {
			b.parts[end.side] = []part{{0, end.end.Subnets}}
		}
		for i, x := range several {
			b.parts[end.side] = append(b.parts[end.side], part{i + 1, ts.Set{x}})
			if !slices.Contains(end.end.Subnets, x) {
				end.end.Subnets = append(end.end.Subnets, x)
			}
		}
		if len(end.end.Subnets) == 0 {
			b.versionOfHosts(pe, c, end.side)
		}
		b.listed = b.listed || len(several) > 0
		end.end.SourceIP = b.sourceIP(end.side, end.end.Subnets)
	}
	child := &c.Children[0]
	child.Left, child.Right = c.Left.Subnets, c.Right.Subnets
	child.MTU = int(b.mtu())
	b.kernelOf(c)
	b.selectorFamilies(c)
	b.selectorProtocols(c)
	if l, r := child.Left, child.Right; !b.listed && len(l) > 0 && slices.Equal(l, r) {
		b.refuseEntry(b.get("subnet", right), "leftsubnet= and rightsubnet= are the same", "")
	}
}

// transportMode reads type=transport, which is between the two hosts themselves (RFC 7296 2.23.1).
func (b *build) transportMode(c *policy.Connection) {
	if value[string](b, "type", noSide) != "transport" {
		return
	}
	for i := range c.Children {
		c.Children[i].Transport = true
	}
	for _, end := range []struct {
		end  *policy.End
		side side
	}{{&c.Left, left}, {&c.Right, right}} {
		for _, s := range end.end.Subnets {
			if s.Start != end.end.Host.Addr || s.End != end.end.Host.Addr {
				e := b.get("subnets", end.side)
				if e == nil {
					e = b.get("subnet", end.side)
				}
				b.refuseEntry(e, fmt.Sprintf("type=transport protects what goes between the two hosts, and %s= is not the address of %s=", e.word, end.side),
					fmt.Sprintf("remove %s=, or write type=tunnel here and at the peer", e.word))
				break
			}
		}
		if a := end.end.SourceIP; a.IsValid() && a != end.end.Host.Addr {
			b.refuseEntry(b.get("sourceip", end.side), fmt.Sprintf("type=transport has the addresses of the hosts, and %ssourceip= is another", end.side), "remove it")
		}
	}
}

func (b *build) mtu() uint64 {
	if b.get("mtu", noSide) == nil {
		return 0
	}
	return value[uint64](b, "mtu", noSide)
}

// subnets gives the elements of an entry the protocol and ports of leftprotoport=.
func (b *build) subnets(e *entry, list []subnet, pp protoPort, pe *entry) ts.Set {
	var set ts.Set
	for _, n := range list {
		if n.zeroed && b.first(e, n.at.text) {
			b.report.add(e.valuePos(n.at.from, len(n.at.text)).diagnostic(Warning, e.sect.name, fmt.Sprintf("%s has octets set behind its mask and is taken as %s", n.at.text, n.prefix), "write "+n.prefix.String()))
		}
		if n.ports != "" && pe != nil {
			b.refuseEntry(e, fmt.Sprintf("%s=%s has a protocol, and %s= has one too", e.word, printable(e.value), pe.word), "write it in one place")
		}
		if n.ports != "" {
			b.typeOfICMP(e, n.ports, n.selector)
			b.versionOfICMP(e, strings.TrimSuffix(n.at.text, "/"+n.ports), n.selector, false)
		} else {
			n.selector.Protocol, n.selector.StartPort, n.selector.EndPort = pp.protocol, pp.start, pp.end
			b.versionOfICMP(pe, n.at.text, n.selector, ofBothVersions(list))
		}
		if !slices.Contains(set, n.selector) {
			set = append(set, n.selector)
		}
	}
	return set
}

func (b *build) sourceIP(s side, subnets ts.Set) netip.Addr {
	e := b.get("sourceip", s)
	if e == nil {
		return netip.Addr{}
	}
	list := value[[]netip.Addr](b, "sourceip", s)
	if len(list) == 0 {
		return netip.Addr{}
	}
	if len(list) > 1 {
		b.warn(e, Warning, fmt.Sprintf("%s=%s: only the first address is used so far", e.word, printable(e.value)), "")
	}
	inside := func(x ts.Selector) bool { return !list[0].Less(x.Start) && !x.End.Less(list[0]) }
	if len(subnets) > 0 && !slices.ContainsFunc(subnets, inside) {
		b.warn(e, Warning, fmt.Sprintf("%s is outside of %ssubnet=: packets from it are not protected", list[0], s), "")
	}
	return list[0]
}

// selectorFamilies finds traffic that has no counterpart of its family on the other side.
func (b *build) selectorFamilies(c *policy.Connection) {
	of := func(e policy.End) []policy.Family {
		var out []policy.Family
		for _, x := range e.Subnets {
			out = append(out, hostFamily(policy.Host{Addr: x.Start}))
		}
		if len(out) == 0 {
			if f := hostFamily(e.Host); f != policy.FamilyAny {
				out = append(out, f)
			}
		}
		return out
	}
	l, r := of(c.Left), of(c.Right)
	if len(l) == 0 || len(r) == 0 {
		return
	}
	common := slices.ContainsFunc(l, func(f policy.Family) bool { return slices.Contains(r, f) })
	e := b.get("subnet", right)
	if e == nil {
		e = b.get("subnet", left)
	}
	if !common && e != nil {
		b.refuseEntry(e, fmt.Sprintf("the left side is IPv%d and the right side is IPv%d: no traffic can match", l[0], r[0]), "")
	}
}

// selectorProtocols finds two sides of different protocols: a packet has one.
func (b *build) selectorProtocols(c *policy.Connection) {
	of := func(e policy.End) ts.Set {
		if len(e.Subnets) > 0 {
			return e.Subnets
		}
		return ts.Set{{Protocol: e.Protocol, StartPort: e.StartPort, EndPort: e.EndPort}}
	}
	l, r := of(c.Left), of(c.Right)
	for _, x := range l {
		if slices.ContainsFunc(r, func(y ts.Selector) bool { return x.Protocol == y.Protocol || x.Protocol == 0 || y.Protocol == 0 }) {
			return
		}
	}
	for _, word := range []string{"protoport", "subnet", "subnets"} {
		for _, s := range []side{right, left} {
			if e := b.get(word, s); e != nil {
				b.refuseEntry(e, fmt.Sprintf("the left side is %s and the right side is %s: no packet has both protocols", l[0].ProtoPort(), r[0].ProtoPort()),
					"write the same protocol for both sides, or none for one of them")
				return
			}
		}
	}
}

// proposalsOf reads ike=, esp= and what belongs to them.
func (b *build) proposalsOf(c *policy.Connection) {
	child := &c.Children[0]
	child.PFS = value[bool](b, "pfs", noSide)
	child.PFSOptional = b.get("pfs", noSide) == nil
	child.ReplayWindow = uint32(value[uint64](b, "replay-window", noSide))
	esn := value[string](b, "esn", noSide)
	if child.ReplayWindow == 0 {
		if e := b.get("replay-window", noSide); e != nil {
			b.warn(e, Warning, "replay-window=0: an attacker may repeat packets", "")
		}
		if e := b.get("esn", noSide); e != nil && esn != "no" {
			b.warn(e, Warning, "extended sequence numbers need a replay window; they are not offered", "")
		}
		esn = "no"
	}
	if child.ReplayWindow > esp.MaxReplayWindow {
		b.warn(b.get("replay-window", noSide), Warning, fmt.Sprintf("replay-window=%d is more than is kept: %d packets are used", child.ReplayWindow, esp.MaxReplayWindow), "")
		child.ReplayWindow = esp.MaxReplayWindow
	}
	if child.ReplayWindow%8 != 0 {
		child.ReplayWindow = (child.ReplayWindow + 7) &^ 7
	}
	c.IKE = b.parseProposals("ike", "", func(s string) (suite.Proposals, error) { return suite.ParseIKE(s) })
	child.ESP = b.parseProposals("esp", esn, func(s string) (suite.Proposals, error) { return suite.ParseESP(s, sequenceNumbers[esn]) })
}

// parseProposals parses each text once: ten thousand connections have few different ones.
func (b *build) parseProposals(name, variant string, parse func(string) (suite.Proposals, error)) suite.Proposals {
	e, text := b.get(name, noSide), ""
	if e != nil {
		text = e.value
	}
	key := name + "\x00" + variant + "\x00" + text
	p, ok := b.proposals[key]
	var err error
	if !ok {
		p, err = parse(text)
	}
	switch {
	case err == nil:
		b.proposals[key] = p
		if e != nil {
			b.weakAlgorithms(e, p)
		}
	case e != nil:
		b.fault(e, proposalFault(text, err))
	default:
		b.refuse(b.sect.at, fmt.Sprintf("the default of %s= is not usable: %v", name, err), "")
	}
	return p
}

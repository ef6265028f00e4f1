package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/suggest"
)

// Compile makes the policies. The set holds the connections that are to be loaded: those without errors whose auto= is not ignore. The diagnostics
// are all of them, those of Load included. The set is nil if they are Fatal.
func (c *Config) Compile() (*policy.Set, Diagnostics) {
	c.lock.Lock()
	defer c.lock.Unlock()
	r := newCompiler(c)
	set := &policy.Set{Setup: r.compileSetup()}
	var ignored []*section
	for _, s := range c.conns {
		if r.isIgnored(s) {
			ignored = append(ignored, s)
		} else if p := r.newBuild(s, false).connection(); p != nil {
			set.Connections = append(set.Connections, p)
		}
	}
	for _, s := range ignored {
		r.checkIgnored(s)
	}
	r.checkRest()
	ds := r.report.sorted()
	if r.report.fatal {
		return nil, ds
	}
	return set, ds
}

// Connection compiles one connection by name, whatever its auto= says, for `ikectl add`. It is nil if there is an error. The diagnostics are those that
// concern it.
func (c *Config) Connection(name string) (*policy.Connection, Diagnostics) {
	c.lock.Lock()
	defer c.lock.Unlock()
	s := c.byName[name]
	if s == nil {
		return nil, Diagnostics{{Severity: Error, File: c.name, Conn: name, Text: "there is no such conn", Suggestion: suggest.DidYouMean(name, c.Names())}}
	}
	r := newCompiler(c)
	b := r.newBuild(s, false)
	p := b.connection()
	chain := map[string]bool{"": true, defaultName: true}
	for s := range b.visited {
		chain[s.name] = true
	}
	ds := slices.DeleteFunc(r.report.sorted(), func(d Diagnostic) bool { return !chain[d.Conn] })
	if r.report.fatal {
		return nil, ds
	}
	return p, ds
}

// checkIgnored looks for mistakes in a connection that is not loaded at start.
func (r *compiler) checkIgnored(s *section) {
	if s.used {
		return // a part of others, not a connection
	}
	b := r.newBuild(s, true)
	if b.broken {
		return
	}
	if b.get(hostKeyword, left) == nil || b.get(hostKeyword, right) == nil {
		r.report.add(s.at.diagnostic(Note, s.name, "it is no connection by itself: left= or right= is missing, and it is not loaded at start", ""))
		return
	}
	if b.connection() != nil && b.get("auto", noSide) == nil {
		r.report.add(s.at.diagnostic(Note, s.name, "it is not loaded at start: auto= is not written and its default is ignore", "write auto=add, ondemand or start"))
	}
}

// checkRest reads the values that no connection used, because they are overridden or in a section that is not loaded.
func (r *compiler) checkRest() {
	for _, list := range [][]*section{r.defaults, r.conns} {
		for _, s := range list {
			for _, e := range s.entries {
				if _, err := e.parse(); err != nil && !e.key.isHarmless(e.value) && r.first(e, err.Error()) {
					r.report.add(r.faultDiagnostic(e, err, true))
				}
			}
		}
	}
}

// compileSetup reads config setup.
func (r *compiler) compileSetup() policy.Setup {
	b := &build{compiler: r, sect: &section{setup: true}, own: map[entryKey]*entry{}}
	for _, e := range r.setup {
		b.own[e.id()] = e
		b.order = append(b.order, e)
	}
	s := policy.Setup{
		ListenUDP:       value[bool](b, "listen-udp", noSide),
		ListenTCP:       value[[]uint16](b, "listen-tcp", noSide),
		KeepAlive:       value[time.Duration](b, "keep-alive", noSide),
		UniqueIDs:       value[bool](b, "uniqueids", noSide),
		CookieThreshold: int(value[uint64](b, "ddos-ike-threshold", noSide)),
		MaxHalfOpen:     int(value[uint64](b, "max-halfopen-ike", noSide)),
		CookieMode: map[string]policy.CookieMode{
			"auto": policy.CookieAuto, "busy": policy.CookieAlways,
			"unlimited": policy.CookieNever,
		}[value[string](b, "ddos-mode", noSide)],
	}
	for _, e := range r.setup {
		if s.Positions == nil {
			s.Positions = map[string]string{}
		}
		s.Positions[e.label()] = e.at.short()
	}
	if e := b.get("secretsfile", noSide); e != nil {
		s.SecretsFile = e.value
	}
	if e := b.get("listen", noSide); e != nil {
		s.Listen = value[netip.Addr](b, "listen", noSide)
	}
	if e := b.get("ddos-ike-threshold", noSide); e != nil && s.CookieThreshold > s.MaxHalfOpen {
		b.warn(e, Warning, fmt.Sprintf("cookies are never asked for: ddos-ike-threshold %d is above max-halfopen-ike %d", s.CookieThreshold, s.MaxHalfOpen), "")
	}
	if !s.ListenUDP && len(s.ListenTCP) == 0 {
		if e := b.get("listen-udp", noSide); e != nil {
			b.warn(e, Warning, "nothing is listened on: listen-udp=no, and listen-tcp= is not set", "")
		}
	}
	b.remarks()
	return s
}

// auto reads auto= alone.
func (b *build) auto() policy.Auto {
	return map[string]policy.Auto{
		"ignore": policy.AutoIgnore, "add": policy.AutoAdd, "ondemand": policy.AutoOnDemand, "route": policy.AutoOnDemand,
		"start": policy.AutoStart, "up": policy.AutoStart, "keep": policy.AutoKeep,
	}[value[string](b, "auto", noSide)]
}

// connection compiles the connection; nil after an error.
func (b *build) connection() *policy.Connection {
	c := &policy.Connection{Name: b.sect.name, Position: b.sect.at.short(), Auto: b.auto(), Children: []policy.Child{{Name: b.sect.name}}}
	b.positions(c)
	b.remarks()
	b.version()
	b.mode(c)
	if !c.IsShunt() {
		b.authentication(c)
	}
	b.hosts(c)
	b.identities(c)
	b.updown(c)
	b.selectors(c)
	b.shunt(c)
	b.transportMode(c)
	if !c.IsShunt() {
		b.proposalsOf(c)
	}
	b.ports(c)
	b.tcp(c)
	b.timing(c)
	c.Encapsulation = encapsulations[value[string](b, "encapsulation", noSide)]
	c.Narrowing = value[bool](b, "narrowing", noSide)
	c.NATKeepAlive = value[bool](b, "nat-keepalive", noSide)
	c.Failure = shunts[value[string](b, "failureshunt", noSide)]
	c.Negotiation = shunts[value[string](b, "negotiationshunt", noSide)]
	b.backend(c)
	b.children(c)
	if b.failed {
		return nil
	}
	return c
}

var encapsulations = map[string]policy.Encapsulation{"auto": policy.EncapAuto, "yes": policy.EncapYes, "no": policy.EncapNo}

var shunts = map[string]policy.Shunt{
	"none": policy.ShuntNone, "pass": policy.ShuntPass, "passthrough": policy.ShuntPass, "drop": policy.ShuntDrop,
	"hold": policy.ShuntHold, "reject": policy.ShuntReject,
}

// positions notes where keywords stand, for messages of other parts.
func (b *build) positions(c *policy.Connection) {
	c.Positions, c.Left.Positions, c.Right.Positions = map[string]string{}, map[string]string{}, map[string]string{}
	into := [...]map[string]string{noSide: c.Positions, left: c.Left.Positions, right: c.Right.Positions}
	b.effective(func(e *entry) { into[e.side][e.label()] = e.at.short() })
}

// version refuses IKEv1.
func (b *build) version() {
	if e := b.get("ikev2", noSide); e != nil {
		switch v := value[string](b, "ikev2", noSide); v {
		case "no", "never", "permit":
			b.refuseEntry(e, e.word+"="+v+" asks for IKEv1, which is not spoken", "remove it")
		case "":
		default:
			b.warn(e, Warning, e.word+"= is the older form of keyexchange=", "remove it; IKEv2 is the default")
		}
	}
	if v := value[string](b, "keyexchange", noSide); v == "ikev1" {
		b.refuseEntry(b.get("keyexchange", noSide), "keyexchange=ikev1 is not supported: IKEv1 is not spoken", "write keyexchange=ikev2, here and at the peer")
	}
}

// mode reads which types have no IKE, and refuses what is not ESP.
func (b *build) mode(c *policy.Connection) {
	c.Shunt = shunts[value[string](b, "type", noSide)] // tunnel and transport are none
	if value[string](b, "phase2", noSide) == "ah" {
		b.refuseEntry(b.get("phase2", noSide), "phase2=ah is not supported: AH is not there", "write phase2=esp, here and at the peer")
	}
}

// maxLifetime is libreswan's upper bound of lifetimes.
const maxLifetime = 24 * time.Hour

func (b *build) timing(c *policy.Connection) {
	c.Retransmit = policy.Retransmit{Interval: value[time.Duration](b, "retransmit-interval", noSide), Timeout: value[time.Duration](b, "retransmit-timeout", noSide)}
	if e := b.get("retransmit-interval", noSide); e != nil && c.Retransmit.Interval > c.Retransmit.Timeout {
		b.warn(e, Warning, fmt.Sprintf("no request is repeated: the interval %s is longer than retransmit-timeout %s", c.Retransmit.Interval, c.Retransmit.Timeout), "")
	}
	c.Lifetimes = policy.Lifetimes{IKE: b.lifetime("ikelifetime"), Child: b.lifetime("ipsec-lifetime")}
	c.Liveness = value[time.Duration](b, "dpddelay", noSide)
	if e := b.get("dpddelay", noSide); e != nil && c.Liveness > 0 && c.Liveness < time.Second {
		b.warn(e, Warning, "dpddelay is raised to 1s", "")
		c.Liveness = time.Second
	}
}

func (b *build) lifetime(name string) time.Duration {
	d := value[time.Duration](b, name, noSide)
	if d <= maxLifetime {
		return d
	}
	e := b.get(name, noSide)
	b.warn(e, Warning, fmt.Sprintf("%s=%s is more than %s and is taken as that", e.word, printable(e.value), "1d"), "")
	return maxLifetime
}

// backend reads backend=, and finds what only the kernel has where it is not to be the kernel's.
func (b *build) backend(c *policy.Connection) {
	c.Backend = map[string]policy.Backend{"auto": policy.BackendAuto, "xfrm": policy.BackendXFRM, "userspace": policy.BackendUserspace}[value[string](b, "backend", noSide)]
	if c.Backend != policy.BackendUserspace {
		return
	}
	k := &c.Children[0].Kernel
	for _, x := range []struct {
		is    bool
		words []string
	}{
		{k.Interface != "", []string{"ipsec-interface"}},
		{k.MarkIn != policy.Mark{} || k.MarkOut != policy.Mark{}, []string{"mark", "mark-in", "mark-out"}},
		{k.MaxBytes > 0, []string{"ipsec-max-bytes"}},
		{k.MaxPackets > 0, []string{"ipsec-max-packets"}},
	} {
		for _, word := range x.words {
			if e := b.get(word, noSide); e != nil && x.is {
				b.refuseEntry(e, fmt.Sprintf("%s= needs the kernel's IPsec, and backend=userspace asks for ikegod's own", e.word), "remove one of the two")
				break
			}
		}
	}
}

// ports reads leftikeport= and rightikeport=.
func (b *build) ports(c *policy.Connection) {
	for _, end := range []struct {
		end  *policy.End
		side side
	}{{&c.Left, left}, {&c.Right, right}} {
		end.end.IKEPort = uint16(value[uint64](b, "ikeport", end.side))
		if e := b.get("ikeport", end.side); e != nil && end.end.IKEPort == iana.PortIKE {
			b.refuseEntry(e, fmt.Sprintf("%s=500 is not allowed: on port 500, which is everybody's, IKE has no marker and there is no room for ESP", e.word),
				"remove it, or write 4500 or another port")
		}
	}
}

func (b *build) tcp(c *policy.Connection) {
	if b.get("tcp-remoteport", noSide) != nil {
		c.TCP.RemotePort = uint16(value[uint64](b, "tcp-remoteport", noSide))
	}
	if e := b.get("tcp-remoteport", noSide); e != nil && c.TCP.RemotePort == 500 {
		b.refuseEntry(e, "tcp-remoteport=500 is not allowed: port 500 is never one of TCP encapsulation (RFC 9329 2)", "write 4500, or the port that the peer listens on")
	}
	e, old := b.get("enable-tcp", noSide), b.get("tcponly", noSide)
	c.TCP.Mode = map[string]policy.TCPMode{"no": policy.TCPNo, "yes": policy.TCPYes, "fallback": policy.TCPFallback}[value[string](b, "enable-tcp", noSide)]
	if old != nil {
		only := value[bool](b, "tcponly", noSide)
		if e == nil && only {
			c.TCP.Mode = policy.TCPYes
		}
		b.warn(old, Warning, old.word+"= is the older form of enable-tcp=", "write enable-tcp="+c.TCP.Mode.String())
	}
	if e := b.get("tcp-remoteport", noSide); e != nil && c.TCP.Mode == policy.TCPNo && !b.failed {
		b.warn(e, Warning, "tcp-remoteport= is without effect: enable-tcp is no", "write enable-tcp=fallback or enable-tcp=yes")
	}
}

package conf

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// State is what ikegod does with a keyword. Every keyword of libreswan has exactly one.
type State uint8

// States of keywords.
const (
	// Implemented keywords do what ipsec.conf says.
	Implemented State = iota
	// NoEffect keywords steer a part that ikegod does not have (NSS, IKEv1, KLIPS) or that is set elsewhere: accepted, with a Note.
	NoEffect
	// NotYet keywords are ignored with a Warning: they do not decide who may connect, which traffic is protected, or with which algorithms.
	NotYet
	// Refused keywords leave their connection out with an Error: ignoring them could give less protection, other traffic or another
	// authentication than written.
	Refused
	// Obsolete keywords are ignored with a Warning, as libreswan does.
	Obsolete
	// CommandLine keywords are options of the command line and an Error in a file, as in libreswan.
	CommandLine
)

// String describes the state in the words of the manual page.
func (s State) String() string {
	return [...]string{"implemented", "accepted without effect", "not yet", "refused", "obsolete", "command line only"}[s]
}

// kind says how a value is read.
type kind uint8

const (
	kindText kind = iota
	kindBool
	kindEnum
	kindDuration
	kindNumber
	kindSize
	kindPercent
	kindAlso
	kindAddr
	kindAddrs
	kindHost
	kindID
	kindSubnets
	kindProtoPort
	kindAuthBy
	kindIKE
	kindESP
	kindListenTCP
	kindCount
	kindMark
	kindInterface
	kindCIDR
)

// String describes the kind in the words of the manual page.
func (k kind) String() string {
	return [...]string{
		"text", "yes or no", "one of", "time", "number", "number, scaled", "percentage", "conn", "address", "addresses", "host",
		"identity", "subnets", "protocol/port", "list of methods", "IKE proposals", "ESP proposals", "yes, no or ports",
		"number of packets, scaled", "mark, or mark/mask", "yes, no or number", "address/length",
	}[k]
}

// keyword is one row of the schema.
type keyword struct {
	name     string
	setup    bool // in "config setup", otherwise in "conn"
	sided    bool // takes left or right before it
	alias    string
	state    State
	kind     kind
	words    []string // of kindEnum
	yesNo    bool     // of kindEnum: every spelling of yes and no is one of the words
	unit     time.Duration
	min, max uint64 // of kindNumber and kindSize; of kindDuration in nanoseconds, max zero: any
	def      string // the default; a value equal to it never draws a remark unless always is set
	harmless []string
	always   bool   // the remark of NotYet comes even for the default: ikegod does not do what the default says
	append   bool   // values of repetitions are joined
	doc      string // what it is, for the manual page
	why      string // what follows from its state, for the manual page and for messages
}

// label is the keyword as it is written with side, "leftsubnet".
func (k *keyword) label(s side) string {
	if k.sided && k.name == "left / right" {
		return s.String()
	}
	return s.String() + k.name
}

// side is the prefix of a keyword.
type side uint8

const (
	noSide side = iota
	left
	right
)

func (s side) String() string { return [...]string{"", "left", "right"}[s] }

// without is the unit of a time that is written without one.
func (k *keyword) without() time.Duration {
	if k.unit == 0 {
		return time.Second
	}
	return k.unit
}

// isHarmless reports whether ignoring this value is what the value asks for.
func (k *keyword) isHarmless(value string) bool {
	same := func(h string) bool {
		if k.kind == kindBool {
			a, errA := parseBool(value)
			b, errB := parseBool(h)
			return errA == nil && errB == nil && a == b
		}
		if k.kind == kindDuration {
			a, errA := parseDuration(value, k.without())
			b, errB := parseDuration(h, k.without())
			return errA == nil && errB == nil && a == b
		}
		return strings.EqualFold(strings.TrimSpace(value), h)
	}
	return k.def != "" && !k.always && same(k.def) || slices.ContainsFunc(k.harmless, same)
}

// schema finds keywords by name.
type schema struct {
	setup, plain, sided map[string]*keyword
	names               map[bool][]string // by setup: all names as they can be written, for suggestions
}

var table = sync.OnceValue(func() *schema {
	s := &schema{map[string]*keyword{}, map[string]*keyword{}, map[string]*keyword{}, map[bool][]string{}}
	add := func(rows []keyword, setup, sided bool) {
		m := s.plain
		switch {
		case setup:
			m = s.setup
		case sided:
			m = s.sided
		}
		for i := range rows {
			k := &rows[i]
			k.setup, k.sided = setup, sided
			m[k.name] = k
			switch {
			case !sided:
				s.names[setup] = append(s.names[setup], k.name)
			case k.name == hostKeyword:
				s.names[setup] = append(s.names[setup], "left", "right")
			default:
				s.names[setup] = append(s.names[setup], "left"+k.name, "right"+k.name)
			}
		}
	}
	add(setupKeywords, true, false)
	add(connKeywords, false, false)
	add(endKeywords, false, true)
	return s
})

// hostKeyword is the name in the table of left= and right= themselves.
const hostKeyword = "left / right"

// canonical follows an alias.
func (s *schema) canonical(k *keyword) *keyword {
	if k.alias == "" {
		return k
	}
	switch {
	case k.setup:
		return s.setup[k.alias]
	case k.sided:
		return s.sided[k.alias]
	}
	return s.plain[k.alias]
}

// lookup finds a keyword of a section by the name as written (LIBRESWAN.md 1.1: any case, "left-id" is leftid).
func (s *schema) lookup(written string, setup bool) (*keyword, side) {
	name := strings.ToLower(written)
	if setup {
		return s.setup[name], noSide
	}
	for _, sd := range []side{left, right} {
		rest, ok := strings.CutPrefix(name, sd.String())
		if !ok {
			continue
		}
		if rest == "" {
			return s.sided[hostKeyword], sd
		}
		if k := s.sided[strings.TrimPrefix(rest, "-")]; k != nil {
			return k, sd
		}
	}
	return s.plain[name], noSide
}

// explainUnknown says why a name is not a keyword and what was probably meant.
func (s *schema) explainUnknown(written string, setup bool, suggest func(string, func() []string) string) (text, suggestion string) {
	name := strings.ToLower(written)
	if !setup {
		if k := s.sided[name]; k != nil {
			return "keyword " + quoted(written) + " needs left or right before it", "write left" + name + " or right" + name
		}
		for _, p := range []string{"left", "right"} {
			if rest, ok := strings.CutPrefix(name, p); ok && s.plain[strings.TrimPrefix(rest, "-")] != nil {
				rest = strings.TrimPrefix(rest, "-")
				return "keyword " + quoted(rest) + " takes no " + p + " before it", "write " + rest
			}
		}
	}
	text = "unknown keyword " + quoted(written)
	if hint := foreignKeywords[name]; hint != "" {
		return text, hint
	}
	if k, _ := s.lookup(written, !setup); k != nil {
		if setup {
			return text + " in config setup", "it belongs into a conn section"
		}
		return text + " in a conn section", "it belongs into config setup"
	}
	if other := strings.ReplaceAll(name, "_", "-"); other != name {
		if k, _ := s.lookup(other, setup); k != nil {
			return text, "did you mean " + other + "?"
		}
	}
	return text, suggest(written, func() []string { return s.names[setup] })
}

// foreignKeywords are words of strongSwan's ipsec.conf and of libreswan's past, with what is written here instead.
var foreignKeywords = map[string]string{
	"forceencaps":     "write encapsulation=yes",
	"leftdns":         "it is strongSwan's; write modecfgdns= at the end that hands out addresses",
	"rightdns":        "it is strongSwan's; write modecfgdns=",
	"leftfirewall":    "it is strongSwan's; firewall rules are yours to set",
	"rightfirewall":   "it is strongSwan's; firewall rules are yours to set",
	"lefthostaccess":  "it is strongSwan's; firewall rules are yours to set",
	"righthostaccess": "it is strongSwan's; firewall rules are yours to set",
	"leftallowany":    "it is strongSwan's; write left=%any",
	"rightallowany":   "it is strongSwan's; write right=%any",
	"eap_identity":    "it is strongSwan's; EAP is not supported yet",
	"closeaction":     "it is strongSwan's; write auto=keep or auto=start for a connection that is to come back",
	"margintime":      "it is strongSwan's; write rekeymargin=",
	"lifebytes":       "it is strongSwan's; write ipsec-max-bytes=",
	"lifepackets":     "it is strongSwan's; write ipsec-max-packets=",
	"marginbytes":     "it is strongSwan's and has no counterpart; remove it",
	"marginpackets":   "it is strongSwan's and has no counterpart; remove it",
	"inactivity":      "it is strongSwan's and has no counterpart; remove it",
	"installpolicy":   "it is strongSwan's and has no counterpart; remove it",
	"modeconfig":      "it is strongSwan's and for IKEv1; remove it",
	"charondebug":     "it is strongSwan's; write --log-level on the command line",
	"cachecrls":       "it is strongSwan's; remove it",
	"strictcrlpolicy": "it is strongSwan's; write crl-strict=",
	"nat_traversal":   "NAT traversal is always there; remove it",
	"oe":              "opportunistic encryption is not supported; remove it",
	"sareftrack":      "it was KLIPS's; remove it",
}

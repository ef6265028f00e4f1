package kernel

import (
	"errors"
	"fmt"
	"strings"
)

// Backend is what the operator asks to carry ESP.
type Backend uint8

// Backends, as --backend= spells them.
const (
	BackendAuto Backend = iota
	BackendXFRM
	BackendUserspace
)

// ParseBackend reads the value of --backend=.
func ParseBackend(s string) (Backend, error) {
	for b := range BackendUserspace + 1 {
		if s == b.String() {
			return b, nil
		}
	}
	return 0, fmt.Errorf("backend=%q is not one of auto, xfrm, userspace", s)
}

// String is the value of --backend=.
func (b Backend) String() string {
	return [...]string{"auto", "xfrm", "userspace"}[min(b, BackendUserspace)]
}

// Shape says which datapaths run.
type Shape uint8

// Shapes.
const (
	ShapeUserspace Shape = iota // the userspace datapath carries everything
	ShapeXFRM                   // the kernel carries everything
	ShapeSplit                  // the kernel carries what it can, the userspace datapath ESP in TCP where the kernel cannot, and what asks for it
)

// String is the shape as status shows it.
func (s Shape) String() string {
	return [...]string{"userspace", "xfrm", "xfrm and userspace"}[min(s, ShapeSplit)]
}

// Ability is whether something can be had here. Why says in an operator's words why not; it is empty where it can.
type Ability struct {
	OK  bool
	Why string
}

// Abilities are what decides between the datapaths.
type Abilities struct {
	ESP        Ability // ESP in the kernel, for the address families of this host
	UDP        Ability // ESP in UDP in the kernel
	TCP        Ability // ESP in TCP in the kernel
	Algorithms Ability // all of pkg/suite's for ESP in the kernel
	TUN        Ability // the userspace datapath's interface
	Marks      Ability // what lets packets from the TUN pass the kernel's policies: an nft table
}

// Choice is the datapaths for this host, and why these.
type Choice struct {
	Backend Backend // what was asked for
	Shape   Shape
	Why     string   // a sentence without a full stop
	Notes   []string // what is missing in this shape and what it means, a sentence each
	can     Abilities
}

// Choose picks the datapaths. asker is a connection that asks for the userspace datapath (backend=userspace), empty: none does. With BackendAuto it fails only where nothing works. UDP and plain ESP go together: a socket that hands ESP to the kernel hands it all
// of it, and the raw sockets beside the kernel's ESP would get a copy of each packet.
func Choose(b Backend, can Abilities, asker string) (Choice, error) {
	c := Choice{Backend: b, can: can}
	lacking := reasons(can.ESP, can.UDP)
	switch {
	case b == BackendUserspace && !can.TUN.OK:
		return c, fmt.Errorf("backend=userspace: %s", can.TUN.Why)
	case b == BackendUserspace:
		c.Shape, c.Why = ShapeUserspace, "backend=userspace asks for it"
		return c, nil
	case b == BackendXFRM && lacking != "":
		return c, fmt.Errorf("backend=xfrm: %s; backend=userspace needs nothing of the kernel but TUN", lacking)
	case b == BackendXFRM:
		c.Shape, c.Why = ShapeXFRM, "backend=xfrm asks for it"
		c.noteTCP(can)
		c.noteAlgorithms(can)
		return c, nil
	}
	if lacking == "" {
		lacking = reasons(can.Algorithms)
	}
	switch {
	case lacking != "" && can.TUN.OK:
		c.Shape, c.Why = ShapeUserspace, lacking
	case reasons(can.ESP, can.UDP) != "":
		return c, errors.New("nothing here can carry ESP: " + reasons(can.ESP, can.UDP, can.TUN))
	case !can.TCP.OK && can.TUN.OK && !can.Marks.OK:
		c.Shape, c.Why = ShapeUserspace, reasons(can.TCP, can.Marks)
	case can.TCP.OK && asker != "" && can.TUN.OK && can.Marks.OK:
		c.Shape, c.Why = ShapeSplit, fmt.Sprintf("the kernel has ESP, in UDP and in TCP too, and connection %q asks for the userspace datapath", asker)
	case can.TCP.OK || !can.TUN.OK:
		c.Shape, c.Why = ShapeXFRM, "the kernel has ESP, in UDP and in TCP too"
		if !can.TCP.OK {
			c.Why = "the kernel has ESP, and the userspace datapath cannot be had: " + can.TUN.Why
			c.noteTCP(can)
		}
		c.noteAlgorithms(can)
	default:
		c.Shape, c.Why = ShapeSplit, "the kernel has ESP and ESP in UDP, but no ESP in TCP, which the userspace datapath carries: "+can.TCP.Why
	}
	return c, nil
}

// Instead is the choice after the datapath of one half could not be started: the other, if there is one that auto may take.
func (c Choice) Instead(failed Shape, err error, can Abilities) (Choice, error) {
	now := Choice{Backend: c.Backend, can: can}
	switch {
	case c.Backend != BackendAuto:
		return c, err
	case failed == ShapeXFRM && can.TUN.OK:
		now.Shape, now.Why = ShapeUserspace, fmt.Sprintf("the kernel's IPsec did not start: %v", err)
	case failed == ShapeUserspace && reasons(can.ESP, can.UDP) == "" && c.Shape == ShapeSplit:
		now.Shape, now.Why = ShapeXFRM, fmt.Sprintf("the userspace datapath did not start: %v", err)
		now.noteTCP(can)
		now.noteAlgorithms(can)
	default:
		return c, err
	}
	return now, nil
}

func (c *Choice) noteTCP(can Abilities) {
	if !can.TCP.OK {
		c.Notes = append(c.Notes, fmt.Sprintf("there is no ESP in TCP, so connections cannot fall back to TCP: %s", can.TCP.Why))
	}
}

func (c *Choice) noteAlgorithms(can Abilities) {
	if !can.Algorithms.OK {
		c.Notes = append(c.Notes, fmt.Sprintf("not every algorithm for Child SAs can be had, and what is lacking is neither offered nor accepted: %s", can.Algorithms.Why))
	}
}

// reasons joins the reasons of what cannot be had; empty: all can.
func reasons(list ...Ability) string {
	var why []string
	for _, a := range list {
		if !a.OK {
			why = append(why, a.Why)
		}
	}
	return strings.Join(why, "; ")
}

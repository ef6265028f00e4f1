package kernel

import "fmt"

// Wish is what a connection wants of the datapath.
type Wish struct {
	Backend  Backend // backend=
	UDP, TCP bool    // it is to be initiated over UDP, over TCP
	PlainESP bool    // encapsulation=no
	OwnPort  bool    // it has a port of its own on this host
	PortWord string  // the keyword that would give it one: "leftikeport="
}

// Refuse says why a wish cannot be had here, and what to do; empty: it can.
func (c Choice) Refuse(w Wish) string {
	switch w.Backend {
	case BackendXFRM:
		return c.refuseXFRM(w)
	case BackendUserspace:
		return c.refuseUserspace(w)
	case BackendAuto:
	}
	return ""
}

func (c Choice) refuseXFRM(w Wish) string {
	switch {
	case c.Shape == ShapeUserspace && c.Backend == BackendUserspace:
		return "this daemon runs with --backend userspace; start it with --backend auto, or remove backend=xfrm"
	case c.Shape == ShapeUserspace:
		return fmt.Sprintf("the userspace datapath carries everything here: %s; remove backend=xfrm", c.Why)
	case w.TCP && !c.can.TCP.OK:
		return fmt.Sprintf("the kernel has no ESP in TCP: %s; set enable-tcp=no, or remove backend=xfrm", c.can.TCP.Why)
	}
	return ""
}

func (c Choice) refuseUserspace(w Wish) string {
	lacking := reasons(c.can.TUN, c.can.Marks)
	switch {
	case c.Shape == ShapeXFRM && c.Backend == BackendXFRM:
		return "this daemon runs with --backend xfrm; start it with --backend auto, or remove backend=userspace"
	case c.Shape == ShapeXFRM && lacking != "":
		return fmt.Sprintf("there is no userspace datapath beside the kernel's: %s", lacking)
	case c.Shape == ShapeXFRM:
		return fmt.Sprintf("there is no userspace datapath: %s; it is made at the start of ikegod, if a connection that is loaded then asks for it: restart ikegod", c.Why)
	case c.Shape == ShapeSplit && w.UDP && w.PlainESP:
		return "plain ESP is the kernel's here; remove encapsulation=no, or backend=userspace"
	case c.Shape == ShapeSplit && w.UDP && !w.OwnPort:
		return fmt.Sprintf("on UDP port 4500 all ESP is the kernel's; give the connection a port of its own with %s, or set enable-tcp=yes", w.PortWord)
	}
	return ""
}

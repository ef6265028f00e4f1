package policy

import "fmt"

// String prints a host as ipsec.conf writes it.
func (h Host) String() string {
	switch h.Kind {
	case HostAddress:
		return h.Addr.String()
	case HostName:
		return h.Name
	case HostAny:
		if h.Family != FamilyAny {
			return fmt.Sprintf("%%any%d", h.Family)
		}
		return "%any"
	case HostDefaultRoute:
		return "%defaultroute"
	}
	return fmt.Sprintf("host(%d)", uint8(h.Kind))
}

// String prints the connection in one line as libreswan's status does:
// "192.0.1.0/24===192.1.2.45[@west]...192.1.2.23[@east]===192.0.2.0/24".
func (c *Connection) String() string {
	return c.Left.topology(true) + "..." + c.Right.topology(false)
}

func (e *End) topology(left bool) string {
	host := e.Host.String()
	if e.ID.Any || !e.ID.ID.IsZero() {
		host += "[" + e.ID.String() + "]"
	}
	if len(e.Subnets) == 0 {
		return host
	}
	if left {
		return e.Subnets.String() + "===" + host
	}
	return host + "===" + e.Subnets.String()
}

// String prints the value of auto=.
func (a Auto) String() string {
	return name(a, "ignore", "add", "ondemand", "start", "keep")
}

// String prints the value of backend=.
func (b Backend) String() string { return name(b, "auto", "xfrm", "userspace") }

// String prints the value of enable-tcp=.
func (m TCPMode) String() string { return name(m, "no", "yes", "fallback") }

// String prints the value of encapsulation=.
func (e Encapsulation) String() string { return name(e, "auto", "yes", "no") }

// String prints the value of failureshunt= or negotiationshunt=.
func (s Shunt) String() string {
	return name(s, "none", "passthrough", "drop", "hold", "reject")
}

// String prints the value of ddos-mode=.
func (m CookieMode) String() string { return name(m, "auto", "busy", "unlimited") }

func name[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("%d", uint8(v))
}

package policy

import (
	"fmt"

	"github.com/ikegod/ikegod/pkg/iana"
)

// OwnPort is a port that the connections which name it in leftikeport= have for themselves; zero: those of everybody, 500 and 4500.
func (e *End) OwnPort() uint16 {
	if e.IKEPort == iana.PortIKE || e.IKEPort == iana.PortIKENATT {
		return 0
	}
	return e.IKEPort
}

// UDPPorts are where the first message over UDP leaves from and where it goes to. On every port but 500 IKE has the non-ESP marker, so with a port written for
// either end that of the other is 4500, and both stay (RFC 7296 2.23: there is nothing to move to).
func (o *Oriented) UDPPorts() (local, remote uint16) {
	local, remote = o.Local.IKEPort, o.Remote.IKEPort
	switch {
	case local == 0 && remote == 0:
		return iana.PortIKE, iana.PortIKE
	case local == 0:
		local = iana.PortIKENATT
	case remote == 0:
		remote = iana.PortIKENATT
	}
	return local, remote
}

// TCPPort is the peer's port of a TCP connection: tcp-remoteport=, or the peer's ikeport=, or 4500.
func (o *Oriented) TCPPort() uint16 {
	switch {
	case o.TCP.RemotePort != 0:
		return o.TCP.RemotePort
	case o.Remote.IKEPort != 0:
		return o.Remote.IKEPort
	}
	return iana.PortIKENATT
}

// InUDP reports whether ESP over UDP is always put into UDP, as on the ports that either end has for itself: a NAT there need not be.
func (o *Oriented) InUDP() bool {
	return o.Encapsulation == EncapYes || o.Encapsulation == EncapAuto && (o.Local.OwnPort() != 0 || o.Remote.OwnPort() != 0)
}

// WhyInUDP names what InUDP follows from.
func (o *Oriented) WhyInUDP() string {
	if o.Encapsulation == EncapYes {
		return "encapsulation=yes (" + o.Where("encapsulation") + ") asks for it"
	}
	return fmt.Sprintf("with %s ESP over UDP is always put into UDP", o.WhereEnd(o.Local.OwnPort() != 0, "ikeport"))
}

// Apart says why two connections between the same hosts cannot share an IKE SA, on whose sockets the ESP of all its Child SAs travels; empty: they can.
func (o *Oriented) Apart(other *Oriented) string {
	switch {
	case o.Local.OwnPort() != other.Local.OwnPort():
		with := o
		if o.Local.OwnPort() == 0 {
			with = other
		}
		return "only one of them is for the port of " + with.WhereEnd(true, "ikeport")
	case (o.Backend == BackendUserspace) != (other.Backend == BackendUserspace):
		return "the two have different datapaths (backend=)"
	}
	return ""
}

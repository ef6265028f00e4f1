package updown

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// suffix says in libreswan's way whether the tunnel is for the host itself or for what is behind it, and for which version of IP.
func (t *Tunnel) suffix() string {
	s := "-client"
	if t.Local.Client.IsSingleIP() && t.Local.Client.Addr() == t.Local.Host {
		s = "-host"
	}
	if t.Local.Client.Addr().Is6() {
		s += "-v6"
	}
	return s
}

// environment is all that a script gets: nothing of the daemon's own, and no secret.
func (t *Tunnel) environment(verb string) []string {
	kind := "tunnel"
	if t.Transport {
		kind = "transport"
	}
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	set := func(name, value string) { env = append(env, name+"="+clean(value)) }
	set("PLUTO_VERB", verb)
	set("PLUTO_CONNECTION", t.Connection)
	set("PLUTO_CONNECTION_TYPE", kind)
	set("PLUTO_INTERFACE", interfaceOf(t.Local.Host))
	set("PLUTO_VIRT_INTERFACE", interfaceOf(t.Local.Host))
	set("PLUTO_NEXT_HOP", text(t.Remote.Host))
	set("PLUTO_ME", text(t.Local.Host))
	set("PLUTO_MY_ID", t.Local.ID)
	set("PLUTO_CLIENT_FAMILY", family(t.Local.Client.Addr()))
	set("PLUTO_CONN_ADDRFAMILY", family(t.Local.Host))
	for _, end := range []struct {
		name string
		End
	}{{"PLUTO_MY", t.Local}, {"PLUTO_PEER", t.Remote}} {
		network, mask := "", ""
		if end.Client.IsValid() {
			network, mask = end.Client.Masked().Addr().String(), net.IP(net.CIDRMask(end.Client.Bits(), end.Client.Addr().BitLen())).String()
			set(end.name+"_CLIENT", end.Client.Masked().String())
		}
		set(end.name+"_CLIENT_NET", network)
		set(end.name+"_CLIENT_MASK", mask)
		set(end.name+"_PORT", strconv.Itoa(int(end.Port)))
		set(end.name+"_PROTOCOL", strconv.Itoa(int(end.Protocol)))
	}
	set("PLUTO_PEER", text(t.Remote.Host))
	set("PLUTO_PEER_ID", t.Remote.ID)
	set("PLUTO_SA_TYPE", "ESP")
	set("PLUTO_STACK", "xfrm") // what scripts ask for; it is the only one that libreswan has
	if t.SourceIP.IsValid() {
		set("PLUTO_MY_SOURCEIP", t.SourceIP.String())
	}
	if t.MTU > 0 {
		set("PLUTO_MTU", strconv.Itoa(t.MTU))
	}
	if t.SPIIn != 0 { // libreswan has them this way round: SPI_IN is what the peer receives by
		set("SPI_IN", fmt.Sprintf("0x%x", t.SPIOut))
		set("SPI_OUT", fmt.Sprintf("0x%x", t.SPIIn))
	}
	return env
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func family(a netip.Addr) string {
	if a.Is6() {
		return "ipv6"
	}
	return "ipv4"
}

// interfaceOf names the interface that has an address.
func interfaceOf(host netip.Addr) string {
	list, err := net.Interfaces()
	if err != nil || !host.IsValid() {
		return ""
	}
	for _, i := range list {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(host.AsSlice()) {
				return i.Name
			}
		}
	}
	return ""
}

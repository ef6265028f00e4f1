package netns

import "errors"

// Addresses of the hosts around a NAT.
const (
	Road      = "192.1.3.209" // behind nic
	Road6     = "2001:db8:1:3::209"
	NIC       = "192.1.2.254" // what east sees of road
	NIC6      = "2001:db8:1:2::254"
	roadLink  = "192.1.3.254"
	roadLink6 = "2001:db8:1:3::254"
)

// natScript hides road behind nic for both versions of IP, on ports that nic chooses; who asks nic for IKE gets road.
const natScript = `table ip nat {
	chain out {
		type nat hook postrouting priority srcnat;
		oifname "eth1" ip saddr 192.1.3.0/24 masquerade random
	}
	chain in {
		type nat hook prerouting priority dstnat;
		iifname "eth1" udp dport { 500, 4500 } dnat to ` + Road + `
	}
}
table ip6 nat {
	chain out {
		type nat hook postrouting priority srcnat;
		oifname "eth1" ip6 saddr 2001:db8:1:3::/64 masquerade random
	}
	chain in {
		type nat hook prerouting priority dstnat;
		iifname "eth1" udp dport { 500, 4500 } dnat to ` + Road6 + `
	}
}
`

// RoadEast makes a lab of two gateways with a NAT between them: road with the inner network of west, nic, which masquerades road and forwards IKE to it, and
// east. Road's outer interface is named as a gateway's.
func RoadEast() (l *Lab, road, nic, east *Host, err error) {
	if l, err = New(); err != nil {
		return nil, nil, nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	for name, h := range map[string]**Host{"road": &road, "nic": &nic, "east": &east} {
		if *h, err = l.Host(name); err != nil {
			return l, road, nic, east, err
		}
	}
	err = errors.Join(
		l.Cable(road, Outer, []string{Road + "/24", Road6 + "/64"}, nic, "eth2", []string{roadLink + "/24", roadLink6 + "/64"}),
		l.Cable(nic, "eth1", []string{NIC + "/24", NIC6 + "/64"}, east, Outer, []string{East + "/24", "2001:db8:1:2::23/64"}),
		road.Stub("eth0", WestInner+"/24", "2001:db8:0:1::254/64"),
		east.Stub("eth0", EastInner+"/24", "2001:db8:0:2::254/64"),
		road.Run("ip", "route", "add", "default", "via", roadLink),
		road.Run("ip", "-6", "route", "add", "default", "via", roadLink6),
		east.Run("ip", "route", "add", "default", "via", NIC),
		east.Run("ip", "-6", "route", "add", "default", "via", NIC6),
		nic.RunInput(natScript, "nft", "-f", "-"),
	)
	return l, road, nic, east, err
}

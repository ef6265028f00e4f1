package userspace

// Help says in a sentence what a reason means, and in another what to do about it, which begins with "Nothing" where the drop is harmless.
func (d Drop) Help() (meaning, todo string) {
	if int(d) < len(dropHelp) {
		return dropHelp[d][0], dropHelp[d][1]
	}
	return "", ""
}

var dropHelp = [NumDrops][2]string{
	DropMalformed:  {"A packet to be sent is no IP packet, or its lengths contradict each other.", "Find the program that sends it, with a capture on the tunnel interface."},
	DropNoPolicy:   {"A packet was routed into the tunnel that no connection protects, for instance because its source is outside of the subnets.", "Compare its source with leftsubnet=; leftsourceip= sets the address that this host itself uses."},
	DropLinkLocal:  {"The kernel's own multicast and neighbour messages on the tunnel interface.", "Nothing: there is nobody to hear them."},
	DropHeld:       {"A packet for a connection without a Child SA: it has waited for ten seconds, or four others of the connection waited already. The connection is being negotiated, or failureshunt=, negotiationshunt= or auto=keep hold its traffic.", "Nothing while it comes up. If it stays down, `ikectl connections` says why."},
	DropByPolicy:   {"A shunt says that this traffic is dropped or rejected.", "Nothing, if that is meant; otherwise change failureshunt= or negotiationshunt=."},
	DropTrapped:    {"A packet for an auto=ondemand connection that did not come up within ten seconds, or for which four others waited already. The first ones wait, and are sent when it is up.", "Nothing, if the connection comes up. Otherwise `ikectl connections` says why not."},
	DropFragment:   {"A later fragment, whose ports a selector would have to see.", "Leave out the ports of leftprotoport= and rightprotoport=, or keep the senders from making fragments."},
	DropReassembly: {"Fragments that have to be put together, in transport mode or out of a tunnel between the two gateways themselves: others are missing, or they contradict each other.", "Nothing, if they are few: fragments get lost. Otherwise lower the MTU of the senders."},
	DropOptions:    {"In transport mode: IP options or extension headers that cannot stand before ESP; the sender was told by ICMP.", "Use type=tunnel for such traffic."},
	DropTooBig:     {"A packet is larger than the tunnel carries and must not be cut; the sender was told by ICMP.", "Nothing: that is how senders learn the MTU. If connections hang, something filters ICMP."},
	DropExhausted:  {"The sequence numbers of an SA are used up.", "Run `ikectl rekey-child NAME`; write esn=yes."},
	DropSend:       {"The socket did not take a sealed packet: its queue is full, or the path is gone.", "See the drops of the transport for the reason."},
	DropShort:      {"A packet is too short to be ESP.", "Nothing, if they are few."},
	DropUnknownSPI: {"ESP came for an SA that this host does not have.", "Nothing right after a restart, a rekey or a down. Steadily: the peer has an old SA; dpddelay= there ends it."},
	DropReplay:     {"A sequence number came again, or from before the replay window.", "Nothing, if they are few: the network doubles or reorders packets. Many: raise replay-window=. Otherwise somebody repeats packets."},
	DropIntegrity:  {"An ESP packet did not authenticate.", "Something on the way changes packets, or the two ends have different keys: bring the connection down and up, and report it if it stays."},
	DropPadding:    {"An authentic packet has wrong padding or lengths.", "The peer's implementation is at fault: report it to its makers."},
	DropDummy:      {"A dummy packet, which hides how much traffic there is (RFC 4303 2.6).", "Nothing: it has done its work by coming."},
	DropInner:      {"An authentic packet does not hold what its SA is for: no IP packet, or in transport mode not a whole one.", "Compare type= and the subnets on both sides; else the peer's implementation is at fault."},
	DropSelector:   {"An authentic packet is outside of what its SA protects (RFC 4301 5.2).", "The peer sends more into the tunnel than was agreed: compare leftsubnet=, rightsubnet= and protoport= on both sides, and the routes there."},
	DropTUN:        {"The kernel did not take a packet from the tunnel.", "Steadily: the machine is too slow; look at its load and at the tunnel interface."},
	DropClear:      {"A packet came in clear although a connection protects it, so it was dropped.", "The peer sends around the tunnel: its connection is down or its routes are wrong. Otherwise somebody forges addresses."},
}

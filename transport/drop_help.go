package transport

// Help says in a sentence what a reason means, and in another what to do about it, which begins with "Nothing" where the drop is harmless.
func (d Drop) Help() (meaning, todo string) {
	if int(d) < len(dropHelp) {
		return dropHelp[d][0], dropHelp[d][1]
	}
	return "", ""
}

var dropHelp = [NumDrops][2]string{
	DropKeepAlive:      {"A NAT keepalive of the peer (RFC 3948 4).", "Nothing: it has done its work by coming."},
	DropEmpty:          {"An empty datagram, or an empty message on a stream.", "Nothing, if they are few."},
	DropShort:          {"A packet shorter than an IKE or an ESP header.", "Nothing, if they are few: scanners send such things."},
	DropLength:         {"The length in the IKE header is not that of the message.", "Nothing, if they are few. Many from a real peer: something on the way cuts packets; try enable-tcp=yes there."},
	DropTruncated:      {"A datagram larger than the read buffer.", "Nothing, if they are few: no IKE or ESP packet is that large."},
	DropNoDatapath:     {"ESP came, and no datapath takes it.", "See the notes of `ikectl status`: the datapath did not start."},
	DropHandlerBusy:    {"An IKE message over UDP found no room; the peer repeats it.", "Steadily: the machine is too slow for what it has to do; look at its load."},
	DropSendQueue:      {"The queue of a TCP stream was full or too old, so ESP packets were dropped: that is how the traffic inside learns to go slower.", "Nothing, if the throughput is what the path gives. Otherwise the path is slow or lossy: prefer UDP where it gets through."},
	DropSendBuffer:     {"The socket or the interface had no room for a datagram.", "Raise net.core.wmem_default, or the queue length of the interface, if it goes on."},
	DropSendTooLarge:   {"A datagram was larger than the path takes; the tunnel's MTU follows.", "Nothing, if they are few. Steadily: set mtu= for the connection."},
	DropSendFailed:     {"The system refused to send a datagram.", "Look at routes and firewall of this host: `ip route get PEER`, and OUTPUT rules for UDP 500 and 4500."},
	DropUnreachable:    {"An ICMP error came back; it is a hint, and nothing ends because of it.", "Nothing listens at the peer, or a router has no way to it: the log has the address."},
	DropStreamPrefix:   {"A TCP connection did not begin with IKETCP.", "Nothing, if they are few: scanners, browsers. From a real peer: it does not speak RFC 9329 on this port."},
	DropStreamSlow:     {"A TCP connection brought no whole message in time.", "Nothing, if they are few: scanners hold connections open. From a real peer: its path is very slow or broken."},
	DropStreamCorrupt:  {"A TCP connection had a bad length, or several messages that belong to nothing; it was closed.", "From a real peer: something on the way changes the stream, such as a proxy."},
	DropStreamMemory:   {"A large message of a stranger on TCP found no room in the memory that strangers share.", "Nothing: whoever is honest connects again. Steadily: it is an attack."},
	DropStreamLimit:    {"The limit on TCP connections was reached, or a stranger's connection gave way to a newer one.", "If honest peers are that many, use more gateways or UDP; otherwise it is an attack."},
	DropStreamSource:   {"One address has more TCP connections than one may have.", "Many peers behind one NAT: let some of them use UDP. Otherwise it is an attack, or a peer that connects again and again: look at its log."},
	DropStreamIKEQueue: {"A peer on TCP did not read the IKE messages for it; the stream was closed.", "Nothing, if it comes back: its path had stalled. Steadily: look at the peer."},
	DropKeepAliveLimit: {"The table of NAT keepalives is full, so a path gets none.", "The NAT of that peer may forget it: set dpddelay= to less than its time, or report it."},
	DropAccept:         {"The system had no file descriptor or memory for a TCP connection.", "Raise LimitNOFILE= of the service, or give the machine more memory."},
}

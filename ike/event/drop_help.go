package event

// Help says in a sentence what a reason means, and in another what to do about it, which begins with "Nothing" where the drop is harmless.
func (d Drop) Help() (meaning, todo string) {
	if int(d) < len(dropHelp) {
		return dropHelp[d][0], dropHelp[d][1]
	}
	return "", ""
}

var dropHelp = [NumDrops][2]string{
	DropShort:          {"A message was shorter than the IKE header of 28 octets.", "Nothing, if they are few: scanners send such things. Many from a real peer: something on the way cuts packets."},
	DropLength:         {"The length in the IKE header is not that of the packet.", "Nothing, if they are few. Many from a real peer: something on the way cuts or joins packets; try enable-tcp=yes."},
	DropMajorVersion:   {"A peer speaks IKEv1, or a version above 2; INVALID_MAJOR_VERSION was sent where the RFC asks for it.", "Set the peer to IKEv2 (keyexchange=ikev2); the log names its address."},
	DropUnknownSPI:     {"No IKE SA of ours has the SPI of the message.", "Nothing, if they follow a restart or a down: the peer finds out by its liveness checks. Steadily from one peer: set dpddelay= there."},
	DropNotInitiator:   {"A message without responder SPI is not an IKE_SA_INIT request with message ID 0.", "Nothing: no real initiator sends such a thing."},
	DropNoConnection:   {"An IKE_SA_INIT request came from an address that no connection is for; NO_PROPOSAL_CHOSEN was sent.", "If the peer should be let in, compare left= and right= with the addresses in the log; `ikectl explain` shows who gets what."},
	DropHalfOpen:       {"More IKE SAs are half-open than max-halfopen-ike= allows.", "If honest peers are that many, raise max-halfopen-ike=; otherwise it is an attack, and cookies (ddos-mode=) are at work already."},
	DropRate:           {"One address sent more IKE_SA_INIT requests than are taken from one.", "Many peers behind one NAT: they get through one after the other, by repeating. A single one: look at its log for why it starts again and again."},
	DropMailbox:        {"A shard had more messages waiting than it takes; peers on UDP repeat theirs.", "Steadily: the machine is too slow for what it has to do; look at its load and at cookies_total."},
	DropDuplicate:      {"A repeated message: the reply went out again, or its first copy is still in work.", "Nothing: replies get lost, and repeating is how IKE over UDP works. Steadily many: packets are lost on the way."},
	DropStaleMessageID: {"A message ID is neither the next one nor the one before it.", "Nothing, if they are few: packets were delayed. Steadily: the peer has lost count, and its implementation should be looked at."},
	DropUnexpected:     {"A response that nobody waits for, or an exchange that cannot come in this state.", "Nothing, if they are few: a late answer. Steadily from one peer: turn on log-level=debug and report what it sends."},
	DropIntegrity:      {"A protected message did not authenticate.", "If it comes from a real peer, something on the way changes packets, or the two ends computed different keys: report it. Otherwise somebody forges."},
	DropSyntax:         {"A message is malformed: lengths that contradict each other, a payload that is missing, or an answer that no request allows.", "From a real peer: report it with a capture; the log says what is wrong."},
	DropUnprotected:    {"A message came in clear where only protected ones are accepted.", "Nothing: anybody can send such a thing, and nothing is believed of it."},
	DropFragment:       {"An IKE fragment could not be used.", "Set fragmentation=no at the peer, or use TCP."},
	DropClosed:         {"A message came for an IKE SA that has just ended, over a stream that has, or while ikegod stops.", "Nothing: it crossed with the end."},
	DropIgnoredError:   {"An error notification came without protection; it is only a hint, since anybody can send it.", "If the connection does not come up, the reason that is told at the end of the attempt names it."},
	DropTooLarge:       {"An IKE_SA_INIT message is larger than any that makes sense.", "From a real peer: shorten its proposals or its list of Vendor IDs."},
}

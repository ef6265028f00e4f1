package kernel

// OnlyXFRM is the keyword that makes a policy one of XFRM alone; empty: every datapath has what it asks for.
func (p *Policy) OnlyXFRM() string {
	switch {
	case p.Interface.Name != "":
		return "ipsec-interface="
	case p.MarkIn != Mark{} || p.MarkOut != Mark{}:
		return "mark="
	}
	return ""
}

// OnlyXFRM is the keyword that makes a pair one of XFRM alone; empty: every datapath has what it asks for. Flags do not count: without them packets are protected
// as well.
func (p *SAPair) OnlyXFRM() string {
	switch {
	case p.Limits.HardBytes > 0:
		return "ipsec-max-bytes="
	case p.Limits.HardPackets > 0:
		return "ipsec-max-packets="
	}
	return ""
}

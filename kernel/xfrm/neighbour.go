package xfrm

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel/xfrm/message"
)

// Neighbour discovery (RFC 4861 4.3, 4.4) finds the link address of the very peer that the SAs are with; a policy between two hosts of one link, or of
// everything, must not hold it.
const (
	neighbourSolicitation  = 135
	neighbourAdvertisement = 136
)

// neighbours counts IPv6 policies, and while there are any keeps others that let neighbour discovery through. Somebody else may have put the same there; it
// serves us as well, and stays.
func (s *spd) neighbours(more int) error {
	before := s.six
	s.six += more
	switch {
	case before == 0 && s.six > 0:
		err := s.letNeighboursThrough()
		if err != nil {
			s.six = before // the next one tries again
		}
		return err
	case before > 0 && s.six == 0:
		var errs []error
		for i := range s.neighbour {
			p := &s.neighbour[i]
			id := message.PolicyID{Selector: p.Selector, Direction: p.Direction}
			if err := s.conn.do(message.DELPOLICY, &message.DelPolicy{ID: id}); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, refused("remove the policy for neighbour discovery", err))
			}
			s.share.freeIndex(p.Index)
		}
		s.neighbour = nil
		return errors.Join(errs...)
	}
	return nil
}

func (s *spd) letNeighboursThrough() error {
	everywhere := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	for _, kind := range []uint16{neighbourSolicitation, neighbourAdvertisement} {
		for _, d := range []message.Direction{message.In, message.Out} { // it is never forwarded
			p := message.Policy{
				Selector:  message.Selector{Src: everywhere, Dst: everywhere, Protocol: protoICMPv6, SrcPorts: message.Ports{Port: kind, Mask: 0xffff}},
				Direction: d, Priority: 1, Index: s.share.index(d),
			}
			err := s.conn.do(message.NEWPOLICY, &message.NewPolicy{Policy: p})
			if err == nil {
				s.neighbour = append(s.neighbour, p)
				continue
			}
			s.share.freeIndex(p.Index)
			if !errors.Is(err, unix.EEXIST) {
				return refused("policy for neighbour discovery", err)
			}
		}
	}
	return nil
}

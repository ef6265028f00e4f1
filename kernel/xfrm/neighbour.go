package xfrm

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
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
		for _, p := range discovery() {
			errs = append(errs, s.change(discoveryOwner, []wish{{Policy: p}}, nil))
		}
		return errors.Join(errs...)
	}
	return nil
}

// discoveryOwner claims the policies for neighbour discovery. No name of a connection has a space.
const discoveryOwner kernel.PolicyID = "neighbour discovery"

func (s *spd) letNeighboursThrough() error {
	for _, p := range discovery() {
		one := []wish{{Policy: p}}
		err := s.change(discoveryOwner, nil, one)
		if err == nil {
			continue
		}
		undone := s.change(discoveryOwner, one, nil)
		if !errors.Is(err, unix.EEXIST) {
			return errors.Join(err, undone)
		}
	}
	return nil
}

func discovery() (out []message.Policy) {
	everywhere := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	for _, kind := range []uint16{neighbourSolicitation, neighbourAdvertisement} {
		for _, d := range []message.Direction{message.In, message.Out} { // it is never forwarded
			out = append(out, message.Policy{
				Selector:  message.Selector{Src: everywhere, Dst: everywhere, Protocol: protoICMPv6, SrcPorts: message.Ports{Port: kind, Mask: 0xffff}},
				Direction: d, Priority: 1,
			})
		}
	}
	return out
}

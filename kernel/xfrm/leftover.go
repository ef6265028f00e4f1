package xfrm

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel/xfrm/message"
)

// claimShare finds the share of this daemon, and with a run directory removes what a daemon before it has left in the kernel and writes the share down. It
// returns what it removed, in an operator's words; empty: nothing.
func claimShare(c *conn, runDir string) (*share, string, error) {
	sas, policies, err := inKernel(c)
	if err != nil {
		return nil, "", err
	}
	number, known := uint32(0), false
	if runDir != "" {
		if number, known, err = readShare(runDir); err != nil {
			return nil, "", err
		}
	}
	if known {
		s := newShare(number)
		text, err := removeLeft(c, s, sas, policies)
		return s, text, err
	}
	first := preferred(runDir)
	for i := range uint32(shares) {
		s := newShare((first + i) % shares)
		if s.empty(sas, policies) {
			if runDir != "" {
				err = s.write(runDir)
			}
			return s, "", err
		}
	}
	return nil, "", fmt.Errorf("the kernel holds SAs or policies of %d other ikegods, more cannot be told apart; look with ip xfrm state and ip xfrm policy for reqids from %d on that nobody uses",
		shares, reqidBase)
}

// inKernel is all SAs and policies of this network namespace.
func inKernel(c *conn) (sas []*message.SA, policies []*message.Policy, err error) {
	answers, err := c.dump(message.GETSA)
	if err != nil {
		return nil, nil, refused("list the kernel's SAs", err)
	}
	for _, b := range answers {
		if sa, err := message.ParseSA(b); err == nil {
			sas = append(sas, sa)
		}
	}
	if answers, err = c.dump(message.GETPOLICY); err != nil {
		return nil, nil, refused("list the kernel's policies", err)
	}
	for _, b := range answers {
		if p, err := message.ParsePolicy(b); err == nil && p.Direction <= message.Forward {
			policies = append(policies, p)
		}
	}
	return sas, policies, nil
}

// empty reports whether the kernel holds nothing of this share.
func (s *share) empty(sas []*message.SA, policies []*message.Policy) bool {
	if slices.ContainsFunc(sas, func(sa *message.SA) bool { return s.hasReqid(sa.Reqid) }) {
		return false
	}
	return !slices.ContainsFunc(policies, s.ours)
}

// removeLeft removes the SAs and policies of a share.
func removeLeft(c *conn, s *share, sas []*message.SA, policies []*message.Policy) (string, error) {
	var errs []error
	count := [2]int{}
	// SAs first: while the policies stand, nothing goes in clear that has gone through them.
	for _, sa := range sas {
		if !s.hasReqid(sa.Reqid) || sa.SPI == 0 {
			continue // without SPI: of a packet that waits; it goes by itself
		}
		if err := c.do(message.DELSA, &message.DelSA{ID: sa.ID()}); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, refused(fmt.Sprintf("remove SA %#08x to %s, left by an earlier daemon", sa.SPI, sa.Dst), err))
		}
		count[0]++
	}
	for _, p := range policies {
		if !s.ours(p) {
			continue
		}
		id := message.PolicyID{Index: p.Index, Direction: p.Direction, Mark: p.Mark, IfID: p.IfID}
		if err := c.do(message.DELPOLICY, &message.DelPolicy{ID: id}); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, refused(fmt.Sprintf("remove policy %s to %s, left by an earlier daemon", p.Selector.Src, p.Selector.Dst), err))
		}
		count[1]++
	}
	if count == [2]int{} {
		return "", errors.Join(errs...)
	}
	return fmt.Sprintf("removed what an earlier daemon had left in the kernel: %d SAs and %d policies", count[0], count[1]), errors.Join(errs...)
}

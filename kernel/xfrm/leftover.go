package xfrm

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel/xfrm/message"
)

// leftover is what a daemon with the same share has left in the kernel. Its SAs go at once: nobody has their keys any more. Its policies stay: they hold traffic back
// that is to be protected, until those of this daemon are in place.
type leftover struct {
	sas      []*message.SA
	policies []*message.Policy
}

// claimShare finds the share of this daemon, and with a run directory what a daemon before it has left in the kernel, and writes the share down. notice takes what
// the operator must know.
func claimShare(c *conn, runDir string, notice func(string)) (*share, leftover, error) {
	sas, policies, err := inKernel(c)
	if err != nil {
		return nil, leftover{}, err
	}
	s, larvalDrop, err := recordedShare(runDir, notice)
	if err == nil && s == nil {
		s, err = freshShare(sas, policies, preferred(runDir))
	}
	if err != nil {
		return nil, leftover{}, err
	}
	s.larvalDrop = larvalDrop
	if runDir != "" {
		if err := s.write(runDir); err != nil {
			s.unclaim()
			return nil, leftover{}, err
		}
	}
	return s, s.left(sas, policies), nil
}

// recordedShare is the share of a run directory, claimed; nil: it has none, or another daemon has it by now. That one has found nothing of ours in it.
func recordedShare(runDir string, notice func(string)) (s *share, larvalDrop string, err error) {
	if runDir == "" {
		return nil, "", nil
	}
	s, damaged, err := readShare(runDir)
	if damaged != "" {
		notice(damaged)
	}
	if s == nil || err != nil {
		return nil, "", err
	}
	who, err := s.claim()
	if who == daemon || err != nil {
		return nil, s.larvalDrop, err
	}
	return s, s.larvalDrop, nil
}

// freshShare is a share that nobody has. If somebody who is no daemon has taken all the names, it is one without a claim.
func freshShare(sas []*message.SA, policies []*message.Policy, first uint32) (*share, error) {
	var unclaimed *share
	for i := range uint32(shares) {
		s := newShare((first + i) % shares)
		if l := s.left(sas, policies); len(l.sas)+len(l.policies) > 0 {
			continue
		}
		who, err := s.claim()
		if who == nobody || err != nil {
			return s, err
		}
		if who == stranger && unclaimed == nil {
			unclaimed = s
		}
	}
	if unclaimed == nil {
		return nil, fmt.Errorf("%d other ikegods run here, or the kernel holds their SAs and policies, and more cannot be told apart; look with ip xfrm state and ip xfrm policy for "+
			"reqids from %d on that nobody uses", shares, reqidBase)
	}
	return unclaimed, nil
}

// inKernel is all SAs and policies of this network namespace.
func inKernel(c *conn) (sas []*message.SA, policies []*message.Policy, err error) {
	if sas, err = sasInKernel(c); err == nil {
		policies, err = policiesInKernel(c)
	}
	return sas, policies, err
}

func sasInKernel(c *conn) (sas []*message.SA, err error) {
	answers, err := c.dump(message.GETSA)
	if err != nil {
		return nil, refused("list the kernel's SAs", err)
	}
	for _, b := range answers {
		if sa, err := message.ParseSA(b); err == nil {
			sas = append(sas, sa)
		}
	}
	return sas, nil
}

func policiesInKernel(c *conn) (policies []*message.Policy, err error) {
	answers, err := c.dump(message.GETPOLICY)
	if err != nil {
		return nil, refused("list the kernel's policies", err)
	}
	for _, b := range answers {
		if p, err := message.ParsePolicy(b); err == nil && p.Direction <= message.Forward {
			policies = append(policies, p)
		}
	}
	return policies, nil
}

// left is what the kernel holds of this share.
func (s *share) left(sas []*message.SA, policies []*message.Policy) leftover {
	return leftover{
		slices.DeleteFunc(slices.Clone(sas), func(sa *message.SA) bool { return !s.hasReqid(sa.Reqid) }),
		slices.DeleteFunc(slices.Clone(policies), func(p *message.Policy) bool { return !s.ours(p) }),
	}
}

// removeSAs removes the SAs, and returns how many there were. Those that the kernel keeps without keys for packets that wait are not among the number.
func (l leftover) removeSAs(c *conn) (removed int, err error) {
	var errs []error
	for _, sa := range l.sas {
		if sa.SPI == 0 {
			errs = append(errs, forgetAcquire(c, message.AllocSPI{
				Src: sa.Src, Dst: sa.Dst, Reqid: sa.Reqid, Mode: sa.Mode, Min: firstSPI, Max: lastSPI, Mark: sa.Mark, IfID: sa.IfID, Seq: sa.Seq,
			}))
			continue
		}
		if err := c.do(message.DELSA, &message.DelSA{ID: sa.ID()}); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, refused(fmt.Sprintf("remove SA %#08x to %s, left by an earlier daemon", sa.SPI, sa.Dst), err))
			continue
		}
		removed++
	}
	return removed, errors.Join(errs...)
}

// removePolicies removes the policies, and returns how many there were.
func (l leftover) removePolicies(c *conn) (removed int, err error) {
	var errs []error
	for _, p := range l.policies {
		id := message.PolicyID{Index: p.Index, Direction: p.Direction, Mark: p.Mark, IfID: p.IfID}
		if err := c.do(message.DELPOLICY, &message.DelPolicy{ID: id}); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, refused(fmt.Sprintf("remove policy %s to %s, left by an earlier daemon", p.Selector.Src, p.Selector.Dst), err))
			continue
		}
		removed++
	}
	return removed, errors.Join(errs...)
}

// found says in an operator's words what was found and what has become of it. Empty: nothing.
func (l leftover) found(sas int) string {
	if sas+len(l.policies) == 0 {
		return ""
	}
	return fmt.Sprintf("removed %d SAs that an earlier daemon had left in the kernel; its %d policies stay until those of this one are in place", sas, len(l.policies))
}

// Sweep takes away what an earlier daemon has left and no policy of this one has replaced. Call it once the policies that were loaded are in place. What could not
// be taken away it tries again with the next call. Before it, Close leaves all that was found as it was: a daemon that cannot start opens nothing.
func (d *Datapath) Sweep() error {
	done := make(chan error, 1)
	d.requests.do(func(closed bool) {
		if closed {
			done <- errClosed
			return
		}
		done <- d.worker.sweep()
	})
	return <-done
}

func (w *worker) sweep() error {
	w.swept = true
	if !w.spd.hasLeft() && !w.sources.hasLeft() && !w.links.hasLeft() {
		return nil
	}
	// The routes first: what they lead to a policy is then no traffic of it any more.
	names, err := w.links.sweep()
	errs := []error{w.sources.sweep(), err}
	if len(names) > 0 {
		w.d.cfg.Left("removed interfaces that an earlier daemon had left: " + strings.Join(names, ", "))
	}
	had := w.spd.hasLeft()
	replaced, removed, err := w.spd.sweep()
	errs = append(errs, err)
	if had {
		w.d.cfg.Left(fmt.Sprintf("of the policies that an earlier daemon had left in the kernel, %d were replaced in place, and %d were removed", replaced, removed))
		errs = append(errs, w.forgetKeyless(func(reqid uint32) bool { return w.byReqid[reqid] == nil }))
	}
	return errors.Join(errs...)
}

// SweepLeft takes away all that an earlier daemon with this run directory has left in the kernel, for a daemon that does without the kernel's IPsec. Call it once
// that one's policies are in place. It returns what there was, in an operator's words; empty: nothing.
func SweepLeft(runDir string) (string, error) {
	said := ""
	s, _, err := recordedShare(runDir, func(text string) { said = text })
	if err != nil {
		return said, err
	}
	if s == nil {
		return said, forgetShare(runDir)
	}
	defer s.unclaim()
	c, err := dial()
	if errors.Is(err, unix.EPROTONOSUPPORT) { // another kernel, in which nothing can be left
		return "", forgetShare(runDir)
	}
	if err != nil {
		return "", err
	}
	defer c.close()
	sas, policies, err := inKernel(c)
	if err != nil {
		return "", err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return "", fmt.Errorf("rtnetlink: %w", err)
	}
	defer h.Close()
	l := s.left(sas, policies)
	// The policies last: until then nothing goes in clear that the others have led to them.
	removedSAs, saErr := l.removeSAs(c)
	from := newSources(h, s, 0)
	sourceErr := errors.Join(from.adopt(), from.sweep())
	names, linkErr := removeLinks(h, aliasOf(runDir))
	removed, policyErr := l.removePolicies(c)
	if err = errors.Join(saErr, sourceErr, linkErr, policyErr, restoreLarval(s.larvalDrop)); err == nil {
		err = forgetShare(runDir)
	}
	if removedSAs+removed+len(names) == 0 {
		return said, err
	}
	text := fmt.Sprintf("removed what an earlier daemon had left in the kernel: %d SAs and %d policies", removedSAs, removed)
	if len(names) > 0 {
		text += ", interfaces " + strings.Join(names, ", ")
	}
	if said != "" {
		text = said + "; " + text
	}
	return text, err
}

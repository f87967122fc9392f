package org.runbook.practice;

/**
 * The boot cannot go on, and the log already says why. The real product then stays alive without a port and without
 * the "started" line (golden-run 1), and so do we: only a look at the log tells.
 */
public final class BootFailure extends RuntimeException {
    public BootFailure(String message, Throwable cause) {
        super(message, cause);
    }
}

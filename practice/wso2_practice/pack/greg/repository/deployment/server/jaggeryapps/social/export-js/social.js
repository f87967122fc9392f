/* Practice server: no comments widget. */

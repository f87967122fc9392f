-- PRACTICE SERVER: a rehearsal double, not WSO2's product.
-- Images of assets: 1 table.

CREATE TABLE IF NOT EXISTS resource (
    uuid VARCHAR(250) NOT NULL,
    tenantid VARCHAR(250) NOT NULL,
    fileName VARCHAR(250),
    contentLength INTEGER,
    contentType VARCHAR(150),
    content LONGBLOB,
    PRIMARY KEY (uuid, tenantid)
) ENGINE INNODB;

"""Calls of IAM users are refused unless their policies allow them, with resources and conditions (moto evaluates actions only).

A user is whoever signs with an access key that IAM issued here (`iam.create_access_key`) or with a session of one; so is a role that somebody has
assumed. The lab's own key may do everything; who signs with no key of the lab does not get here (`signatures`). A call is taken apart into the
questions that AWS asks: the action on every resource it uses, with that resource's tags, and on every resource it makes, with the tags it is made
with. Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon EC2".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.iam.access_control import IAMPolicy
from moto.s3.exceptions import BucketAccessDeniedError, S3AccessDeniedError
from werkzeug.exceptions import HTTPException

from ec2lab.api import credentials
from ec2lab.api.policies import Question, allowed

# What the actions of EC2 that change something use and make: the columns "Resource types" of the reference, and the request's parameter that names
# the resource. An action that is not here is refused to IAM users. `creates` take the tags of the request (aws:RequestTag), `uses` have their own.
EC2: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "AllocateAddress": ({}, ("elastic-ip",)),
    "AssociateAddress": ({"elastic-ip": "AllocationId", "instance": "InstanceId", "network-interface": "NetworkInterfaceId"}, ()),
    "AssociateIamInstanceProfile": ({"instance": "InstanceId"}, ()),
    "AssociateRouteTable": ({"route-table": "RouteTableId", "subnet": "SubnetId", "internet-gateway": "GatewayId"}, ()),
    "AttachInternetGateway": ({"internet-gateway": "InternetGatewayId", "vpc": "VpcId"}, ()),
    "AttachVolume": ({"instance": "InstanceId", "volume": "VolumeId"}, ()),
    "AuthorizeSecurityGroupEgress": ({"security-group": "GroupId"}, ()),
    "AuthorizeSecurityGroupIngress": ({"security-group": "GroupId"}, ()),
    "CreateInternetGateway": ({}, ("internet-gateway",)),
    "CreateNatGateway": ({"subnet": "SubnetId", "elastic-ip": "AllocationId"}, ("natgateway",)),
    "CreateNetworkInterface": ({"subnet": "SubnetId", "security-group": "Groups"}, ("network-interface",)),
    "CreateRoute": ({"route-table": "RouteTableId"}, ()),
    "CreateRouteTable": ({"vpc": "VpcId"}, ("route-table",)),
    "CreateSecurityGroup": ({"vpc": "VpcId"}, ("security-group",)),
    "CreateSubnet": ({"vpc": "VpcId"}, ("subnet",)),
    "CreateVolume": ({}, ("volume",)),
    "CreateVpc": ({}, ("vpc",)),
    "CreateVpcEndpoint": ({"vpc": "VpcId", "subnet": "SubnetIds", "security-group": "SecurityGroupIds", "route-table": "RouteTableIds"}, ("vpc-endpoint",)),
    "DeleteInternetGateway": ({"internet-gateway": "InternetGatewayId"}, ()),
    "DeleteKeyPair": ({"key-pair": "KeyName"}, ()),
    "DeleteNatGateway": ({"natgateway": "NatGatewayId"}, ()),
    "DeleteNetworkInterface": ({"network-interface": "NetworkInterfaceId"}, ()),
    "DeleteRoute": ({"route-table": "RouteTableId"}, ()),
    "DeleteRouteTable": ({"route-table": "RouteTableId"}, ()),
    "DeleteSecurityGroup": ({"security-group": "GroupId"}, ()),
    "DeleteSubnet": ({"subnet": "SubnetId"}, ()),
    "DeleteVolume": ({"volume": "VolumeId"}, ()),
    "DeleteVpc": ({"vpc": "VpcId"}, ()),
    "DeleteVpcEndpoints": ({"vpc-endpoint": "VpcEndpointIds"}, ()),
    "DescribeInstanceAttribute": ({"instance": "InstanceId"}, ()),
    "DescribeVpcAttribute": ({"vpc": "VpcId"}, ()),
    "DetachInternetGateway": ({"internet-gateway": "InternetGatewayId", "vpc": "VpcId"}, ()),
    "DisassociateAddress": ({"elastic-ip": "AssociationId"}, ()),
    "DisassociateIamInstanceProfile": ({"instance": "AssociationId"}, ()),
    "DisassociateRouteTable": ({"route-table": "AssociationId", "subnet": "AssociationId"}, ()),
    "GetConsoleOutput": ({"instance": "InstanceId"}, ()),
    "GetEbsDefaultKmsKeyId": ({}, ()),
    "GetEbsEncryptionByDefault": ({}, ()),
    "ImportKeyPair": ({}, ("key-pair",)),
    "ModifyInstanceAttribute": ({"instance": "InstanceId", "security-group": "Groups"}, ()),
    "ModifyInstanceMetadataOptions": ({"instance": "InstanceId"}, ()),
    "ModifyNetworkInterfaceAttribute": ({"network-interface": "NetworkInterfaceId", "security-group": "Groups"}, ()),
    "ModifySubnetAttribute": ({"subnet": "SubnetId"}, ()),
    "ModifyVolume": ({"volume": "VolumeId"}, ()),
    "ModifyVpcAttribute": ({"vpc": "VpcId"}, ()),
    "RebootInstances": ({"instance": "InstanceIds"}, ()),
    "ReleaseAddress": ({"elastic-ip": "AllocationId"}, ()),
    "ReplaceRoute": ({"route-table": "RouteTableId"}, ()),
    "ReplaceRouteTableAssociation": ({"route-table": "RouteTableId", "subnet": "AssociationId"}, ()),
    "RevokeSecurityGroupEgress": ({"security-group": "GroupId"}, ()),
    "RevokeSecurityGroupIngress": ({"security-group": "GroupId"}, ()),
    "RunInstances": (
        {"image": "ImageId", "subnet": "SubnetId", "security-group": "SecurityGroupIds", "key-pair": "KeyName"},
        ("instance", "volume", "network-interface"),
    ),
    "StartInstances": ({"instance": "InstanceIds"}, ()),
    "StopInstances": ({"instance": "InstanceIds"}, ()),
    "TerminateInstances": ({"instance": "InstanceIds"}, ()),
}
KIND = {  # what the beginning of an id tells, for tags
    "ami": "image", "eipalloc": "elastic-ip", "eni": "network-interface", "i": "instance", "igw": "internet-gateway", "key": "key-pair",
    "nat": "natgateway", "rtb": "route-table", "sg": "security-group", "sgr": "security-group-rule", "subnet": "subnet", "vol": "volume",
    "vpc": "vpc", "vpce": "vpc-endpoint",
}  # fmt: skip
# EBS User Guide, "Amazon EBS encryption requirements": what a launch needs of a key of one's own
OF_VOLUMES = ("kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo")
PUBLIC_PARAMETERS = "/aws/service/"  # of AWS and publishers: their ARNs name no account
TAG = "aws:RequestTag/{}"


def install() -> None:
    """Hold the calls of IAM users to their policies from now on, in this process. EC2's DryRun is answered after that, as AWS does."""
    ActionAuthenticatorMixin._authenticate_and_authorize_normal_action = _authorize  # type: ignore[method-assign]
    ActionAuthenticatorMixin._authenticate_and_authorize_s3_action = _authorize_s3  # type: ignore[method-assign]


def _authorize(self: Any, resource: str = "*") -> None:
    from moto.ec2.exceptions import DryRunClientError

    service, action = self.service_name, self._get_action()
    if (user := _user(self)) and (refusal := _first_refused(user, _questions(self, service, action))):
        _answer(self, _refusal(service, user.arn, refusal))
    if service == "ec2" and action != "RunInstances" and self._get_param("DryRun", False):  # a launch looks at its parameters as well
        _answer(self, DryRunClientError())


def _authorize_s3(self: Any, bucket_name: str | None = None, key_name: str | None = None) -> None:
    if user := _user(self):
        action = "PutBucketPublicAccessBlock" if "publicAccessBlock" in self.querystring else self._get_action()
        resource = f"arn:aws:s3:::{bucket_name}" + (f"/{key_name}" if key_name else "") if bucket_name else "*"
        questions = [Question("s3:" + {"HeadBucket": "ListBucket"}.get(action, action), resource)]
        if source := self.headers.get("x-amz-copy-source"):  # an upload that copies reads another object
            questions.append(Question("s3:GetObject", f"arn:aws:s3:::{unquote(source).lstrip('/').partition('?')[0]}"))
        if _first_refused(user, [*questions, *_of_s3_keys(self, action, bucket_name, key_name)]):
            raise BucketAccessDeniedError(bucket_name) if bucket_name else S3AccessDeniedError()


def _of_s3_keys(self: Any, action: str, bucket_name: str | None, key_name: str | None) -> Iterator[Question]:
    """Yield what KMS is asked for on behalf of the caller (S3 User Guide, "Using server-side encryption with AWS KMS keys")."""
    from moto.s3.models import s3_backends

    place = f"{self.region}:{self.current_account}"
    if action == "PutObject" and (key := self.headers.get("x-amz-server-side-encryption-aws-kms-key-id")):
        yield Question("kms:GenerateDataKey", _key_arn(self, key, place))
    bucket = s3_backends[self.current_account][self.partition].buckets.get(bucket_name or "")
    stored = bucket.keys.get(key_name or "") if action == "GetObject" and bucket else None
    if stored is not None and stored.kms_key_id:
        yield Question("kms:Decrypt", _key_arn(self, stored.kms_key_id, place))


def permits(user: Any, question: Question) -> bool:
    """Return whether the policies of the user or role allow it; None, the account's root, may do everything."""
    return user is None or _first_refused(user, [question]) is None


def _first_refused(user: Any, questions: Iterable[Question]) -> Question | None:
    """Return the first question that the user's policies do not allow, or None."""
    policies = [IAMPolicy(policy)._policy_json for policy in user.collect_policies()]
    return next((question for question in questions if not allowed(policies, question)), None)


def _user(self: Any) -> Any:
    """Return the user or the role whose key the request is signed with, or None for a key that IAM did not issue."""
    key = credentials.signer(self.headers, self.uri)
    return key.owner if key else None


def _answer(self: Any, problem: ServiceException) -> None:
    """End the call with this error, in the form of its service."""
    status, headers, body = self.serialized(ActionResult(problem))
    self.response_headers.update(headers)
    ended = HTTPException(body)
    ended.code = int(status)
    raise ended


def _refusal(service: str, who: str, question: Question) -> ServiceException:
    action, resource = question.action, question.resource
    why = f"User: {who} is not authorized to perform: {action} on resource: {resource} because no identity-based policy allows the {action} action"
    if service == "ec2":
        return credentials.Refusal("UnauthorizedOperation", f"You are not authorized to perform this operation. {why}")
    return credentials.Refusal("AccessDenied" if service in ("iam", "sts") else "AccessDeniedException", why)


def _questions(self: Any, service: str, action: str) -> list[Question]:
    if f"{service}:{action}" in ("sts:GetCallerIdentity", "sts:GetSessionToken"):  # need no permission, says their reference
        return []
    place = f"{self.region}:{self.current_account}"
    if service == "ec2":
        return list(_of_ec2(self, action, place))
    parameters = json.loads(self.body or "{}") if service in ("ssm", "kms") else {}
    if service == "ssm":
        return list(_of_ssm(self, action, parameters, place))
    if service == "kms" and (key := parameters.get("KeyId")):
        return [Question(f"kms:{action}", _key_arn(self, key, place))]
    if service == "iam":
        return list(_of_iam(self, action))
    if f"{service}:{action}" == "sts:AssumeRole":
        return [Question("sts:AssumeRole", str(self._get_param("RoleArn")))]
    return [Question(f"{SIGNED_AS.get(service, service)}:{action}")]


SIGNED_AS = {"service-quotas": "servicequotas"}


def _of_ssm(self: Any, action: str, parameters: Mapping[str, Any], place: str) -> Iterator[Question]:
    if action == "StartSession":
        yield from _of_session(self, parameters, place)
        return
    if session := parameters.get("SessionId"):
        yield Question(f"ssm:{action}", f"arn:aws:ssm:{place}:session/{session}")
        return
    names = [parameters[key] for key in ("Name", "Path") if key in parameters] or parameters.get("Names", [])
    names += [parameters["ResourceId"]] if parameters.get("ResourceType") == "Parameter" else []
    for name in names:
        of = place.partition(":")[0] + ":" if name.startswith(PUBLIC_PARAMETERS) else place
        arn = f"arn:aws:ssm:{of}:parameter/{name.lstrip('/')}"
        yield Question(f"ssm:{action}", arn)
        if action == "PutParameter" and parameters.get("Tags"):
            yield Question("ssm:AddTagsToResource", arn)
    if not names:
        yield Question(f"ssm:{action}")
    if action == "PutParameter" and parameters.get("KeyId", "alias/aws/ssm") != "alias/aws/ssm":
        yield Question("kms:Encrypt", _key_arn(self, parameters["KeyId"], place))
    if parameters.get("WithDecryption"):
        stored = self.ssm_backend._parameters.items()
        keys = {versions[-1].keyid for name, versions in stored if versions and name.startswith(tuple(names))}
        yield from (Question("kms:Decrypt", _key_arn(self, key, place)) for key in keys if key and key != "alias/aws/ssm")


def _of_session(self: Any, parameters: Mapping[str, Any], place: str) -> Iterator[Question]:
    """Yield the questions of a session: about the machine, by its tags, and about the document. Those of AWS name no account."""
    from moto.ec2.models import ec2_backends

    tags = _own_tags(ec2_backends[self.current_account][self.region], parameters["Target"])
    named = {f"ssm:resourceTag/{key.partition('/')[2]}": value for key, value in tags.items()}
    yield Question("ssm:StartSession", _arn("instance", parameters["Target"], place), tags | named)
    if document := parameters.get("DocumentName"):
        of = f"{self.region}:" if document.startswith("AWS-") else place
        yield Question("ssm:StartSession", f"arn:aws:ssm:{of}:document/{document}")


def _key_arn(self: Any, key: str, place: str) -> str:
    """Return the ARN of the key itself also where an alias names it: policies are asked about keys (KMS Developer Guide, "Using IAM policies")."""
    from moto.kms.models import kms_backends

    backend = kms_backends[self.current_account][self.region]
    if "alias/" in key and backend.alias_exists(alias := "alias/" + key.partition("alias/")[2]):
        key = backend.any_id_to_key_id(alias)
    return key if key.startswith("arn:") else f"arn:aws:kms:{place}:{key if key.startswith('alias/') else 'key/' + key}"


def _of_iam(self: Any, action: str) -> Iterator[Question]:
    """Yield the questions about an instance profile or a role. Only IAM knows the path of one that exists; what does not exist is asked for without one."""
    from moto.iam.models import iam_backends

    iam = iam_backends[self.current_account][self.partition]
    profiles = {profile.name: profile.path for profile in iam.instance_profiles.values()}
    roles = {role.name: role.path for role in iam.roles.values()}
    given, tagged = self._get_param("Path"), bool(self._get_param("Tags"))
    arns = {
        kind: f"arn:aws:iam::{self.current_account}:{kind}{given or there.get(name) or '/'}{name}"
        for kind, parameter, there in (("instance-profile", "InstanceProfileName", profiles), ("role", "RoleName", roles))
        if (name := self._get_param(parameter))
    }
    if not arns:
        yield Question(f"iam:{action}")
        return
    kind, arn = next(iter(arns.items()))
    yield Question(f"iam:{action}", arn)
    if tagged:
        yield Question("iam:TagRole" if kind == "role" else "iam:TagInstanceProfile", arn)
    if action == "AddRoleToInstanceProfile":
        yield Question("iam:PassRole", arns["role"], {"iam:PassedToService": "ec2.amazonaws.com"})


def _of_ec2(self: Any, action: str, place: str) -> Iterator[Question]:
    asked, ec2 = self.params, self.ec2_backend
    if action in ("CreateTags", "DeleteTags"):
        given = {tag["Key"]: tag.get("Value") or "" for tag in asked.get("Tags", [])}
        for id_ in asked["Resources"]:
            context = {**_own_tags(ec2, id_), **(_given_tags(given) if action == "CreateTags" else {"aws:TagKeys": tuple(given)})}
            yield Question(f"ec2:{action}", _arn(KIND[id_.partition("-")[0]], id_, place), context)
        return
    if action not in EC2:
        listing = action.startswith("Describe")  # of those that only list, none can be limited to resources
        yield Question(f"ec2:{action}", "*" if listing else f"unknown (ec2lab's table of resources, api/authorization.py, has no row {action})")
        return
    uses, creates = EC2[action]
    for kind, parameter in uses.items():
        for id_ in _associated(ec2, kind, asked[parameter]) if parameter == "AssociationId" else _named(asked, kind, parameter):
            key = ec2.key_pairs.get(id_) if kind == "key-pair" else None
            yield Question(f"ec2:{action}", _arn(kind, id_, place), _own_tags(ec2, key.id if key else id_))
    if not any(uses.values()) and not creates:
        yield Question(f"ec2:{action}")
    for kind in creates:
        tags = {tag["Key"]: tag["Value"] for each in asked.get("TagSpecifications", []) if each["ResourceType"] == kind for tag in each["Tags"]}
        arn = _arn(kind, "*", place)
        yield Question(f"ec2:{action}", arn, _given_tags(tags))
        if tags:
            yield Question("ec2:CreateTags", arn, _given_tags(tags) | {"ec2:CreateAction": action})
    yield from _beyond_ec2(self, asked, place)


def _named(asked: Mapping[str, Any], kind: str, parameter: str) -> list[str]:
    """Return the ids of a kind that the request names; a launch may name some inside its interfaces."""
    found = asked.get(parameter, [])
    inside = {"subnet": "SubnetId", "security-group": "Groups"}.get(kind)
    nested = [nic.get(inside, []) for nic in asked.get("NetworkInterfaces", [])] if inside else []
    return [id_ for each in (found, *nested) for id_ in (each if isinstance(each, list) else [each]) if isinstance(id_, str)]


def _associated(ec2: Any, kind: str, association: str) -> list[str]:
    """Return what an association is about; a request to change it names the association alone."""
    tables = [table for table in ec2.route_tables.values() if association in table._associations]
    profiles = ec2.iam_instance_profile_associations.values()
    found = {
        "elastic-ip": [address.allocation_id for address in ec2.addresses if address.association_id == association],
        "instance": [each.instance.id for each in profiles if each.association_id == association],
        "route-table": [table.id for table in tables],
        "subnet": [table._associations[association] for table in tables],
    }
    return found[kind]


def _beyond_ec2(self: Any, asked: Mapping[str, Any], place: str) -> Iterator[Question]:
    """Yield what other services are asked for on behalf of the caller: the disks' key, the role of an instance profile."""
    for device in asked.get("BlockDeviceMappings", []):
        if key := device.get("Ebs", {}).get("KmsKeyId"):
            grant = {"kms:GrantIsForAWSResource": "true"}
            yield from (Question(permission, _key_arn(self, key, place), grant if permission.endswith("Grant") else {}) for permission in OF_VOLUMES)
    if profile := asked.get("IamInstanceProfile"):
        from moto.iam.models import iam_backends

        name = profile.get("Name") or profile.get("Arn", "").rpartition("/")[2]
        found = iam_backends[self.current_account][self.partition].get_instance_profile(name)
        yield from (Question("iam:PassRole", role.arn, {"iam:PassedToService": "ec2.amazonaws.com"}) for role in found.roles)


def _arn(kind: str, id_: str, place: str) -> str:
    of = f"{place.partition(':')[0]}:" if kind == "image" else place  # an image's ARN names no account
    return f"arn:aws:ec2:{of}:{kind}/{id_}"


def _own_tags(ec2: Any, id_: str) -> dict[str, str]:
    return {f"{prefix}:ResourceTag/{key}": value for key, value in ec2.tags.get(id_, {}).items() for prefix in ("aws", "ec2")}


def _given_tags(tags: Mapping[str, str]) -> dict[str, str | tuple[str, ...]]:
    return {**{TAG.format(key): value for key, value in tags.items()}, **({"aws:TagKeys": tuple(tags)} if tags else {})}
